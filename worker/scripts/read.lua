-- The records of some jobs, from ARGV[2] on, each with its place in its queue from 0. What is gone is left out.
local found = {}
for position = 2, #ARGV do
  local job = ARGV[position]
  local fields = redis.call('HGETALL', record(job))
  if #fields > 0 then
    table.insert(found, {job, fields, redis.call('ZRANK', key('queued:' .. get(job, 'queue')), job)})
  end
end
return found
