-- How far a search is, ARGV[4], as a worker, ARGV[3], tells that has taken it. ARGV[5]: the version of the sweep beyond
-- which nothing may have happened if the search is over with that, or nothing if it is not.
local worker, progress, version = ARGV[3], ARGV[4], ARGV[5]
local name = sweep_key(id)
local known, latest, closed = unpack(redis.call('HMGET', name, 'search', 'version', 'closed'))
if not known or redis.call('GET', name .. ':holder') ~= worker then
  return
end
local is_over = version == latest
if is_over then
  redis.call('SREM', key('searches'), id)
  redis.call('DEL', name .. ':holder')
end
if known ~= progress or is_over and not closed then
  redis.call('HSET', name, 'search', progress)
  if is_over then
    redis.call('HSETNX', name, 'closed', 1)
  end
  announce(id, redis.call('HINCRBY', name, 'version', 1))
end
