-- Lets some jobs of a sweep wait for a worker again, behind the one in ARGV[3]: those that failed or were cancelled.
-- Returns whether that is allowed, the position behind which to go on, empty at the end, and the calls for workers.
local position, limit = ARGV[3], ARGV[4]
if redis.call('EXISTS', sweep_key(id)) == 0 or redis.call('HEXISTS', sweep_key(id), 'condemned') == 1 then
  return {0, '', {}}
end
local jobs, next_position = jobs_behind(id, position, limit)
for _, job in ipairs(jobs) do
  if retry(job) then
    call(job)
  end
end
if #calls > 0 then
  begin_anew(id)
end
return {1, next_position, calls}
