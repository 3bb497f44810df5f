-- Gives every cell of a sweep jobs with further seeds, if its seeds are still those that the caller knows, ARGV[4].
-- ARGV[5]: all seeds from then on; ARGV[6]: the new ones, as JSON. Returns whether that is allowed, and the calls for
-- workers.
local random, known, seeds, further = ARGV[3], ARGV[4], ARGV[5], cjson.decode(ARGV[6])
local name = sweep_key(id)
local found, condemned = unpack(redis.call('HMGET', name, 'seeds', 'condemned'))
if found ~= known or condemned then
  return {0, {}}
end
redis.call('HSET', name, 'seeds', seeds)
local cells = {}
for number, text in ipairs(redis.call('LRANGE', name .. ':cells', 0, -1)) do
  table.insert(cells, {number = number - 1, text = text})
end
make_jobs(id, cells, further, random)
begin_anew(id)
return {1, calls}
