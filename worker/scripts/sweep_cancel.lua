-- Cancels some jobs of a sweep, behind the one in ARGV[3]; those that have ended stay. It gets no further cells.
-- Returns whether there is such a sweep, and the position behind which to go on, empty at the end.
local position, limit, cancelled, requested = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if redis.call('EXISTS', sweep_key(id)) == 0 then
  return {0, ''}
end
redis.call('HSETNX', sweep_key(id), 'closed', CANCELLED)
if redis.call('LLEN', sweep_key(id) .. ':cells') == 0 then
  redis.call('HSETNX', sweep_key(id), 'finished', now)
  announce(id, redis.call('HINCRBY', sweep_key(id), 'version', 1))
end
local jobs, next_position = jobs_behind(id, position, limit)
for _, job in ipairs(jobs) do
  cancel(job, cancelled, requested)
end
return {1, next_position}
