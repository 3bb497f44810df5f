-- Removes a job that has ended, with everything the store knows of it. ARGV[3] and on: the indexes it stands in.
-- Returns whether that is allowed: a record in a state that nobody knows is not one of a job under way.
local fields, folded = unfolded(id)
local status = fields.status or ''
if is_under_way(status) then
  return 0
elseif not next(fields) then
  return 1
end
for position = 3, #ARGV do
  redis.call('ZREM', key('index:' .. ARGV[position]), id)
end
redis.call('ZREM', key('index:status:' .. status), id)
redis.call('ZREM', key('jobs'), id)
if folded.shares then
  unshare(folded.shares)
end
if fields.sweep then
  leave_sweep(fields.sweep, id, status)
end
local known = key('idempotency:' .. (fields.idempotency_key or ''))
if fields.idempotency_key and redis.call('HGET', known, 'job') == id then
  redis.call('DEL', known)
end
announce(id, fields.version or 0)
redis.call('DEL', record(id), key('events:' .. id))
return 1
