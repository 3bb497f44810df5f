-- Adds cells, from ARGV[6] on, to a sweep that is not closed and has as many as the caller knows, ARGV[4]. ARGV[5]: its
-- axes from then on, or nothing if they stay as they are. Returns whether that is allowed, and the calls for workers.
local random, expected, axes = ARGV[3], tonumber(ARGV[4]), ARGV[5]
local seeds, closed = unpack(redis.call('HMGET', sweep_key(id), 'seeds', 'closed'))
if not seeds or closed or redis.call('LLEN', sweep_key(id) .. ':cells') ~= expected then
  return {0, {}}
end
if axes ~= '' then
  redis.call('HSET', sweep_key(id), 'axes', axes)
end
make_jobs(id, add_cells(id, 6), cjson.decode(seeds), random)
announce(id, redis.call('HINCRBY', sweep_key(id), 'version', 1))
return {1, calls}
