-- Removes a job that has ended, with everything the store knows of it. ARGV[3] and on: the indexes it stands in.
local status = get(id, 'status')
if status ~= 'succeeded' and status ~= 'failed' and status ~= 'cancelled' then
  return 0
end
for position = 3, #ARGV do
  redis.call('ZREM', key('index:' .. ARGV[position]), id)
end
redis.call('ZREM', key('index:status:' .. status), id)
redis.call('ZREM', key('jobs'), id)
announce(id, get(id, 'version'))
redis.call('DEL', record(id), key('events:' .. id))
return 1
