-- Lets some jobs of a sweep wait for a worker again, behind the one in ARGV[3]: those that failed or were cancelled, but
-- for hopeless trials. A search that was cancelled goes on.
-- Returns whether that is allowed, the position behind which to go on, empty at the end, and the calls for workers.
local position, limit = ARGV[3], ARGV[4]
if redis.call('EXISTS', sweep_key(id)) == 0 or redis.call('HEXISTS', sweep_key(id), 'condemned') == 1 then
  return {0, '', {}}
end
local function was_hopeless(job)
  return is_search(id) and (unfolded(job).reason or ''):find('"code":"pruned"', 1, true)
end

local jobs, next_position = jobs_behind(id, position, limit)
for _, job in ipairs(jobs) do
  if not was_hopeless(job) and retry(job) then
    call(job)
  end
end
local goes_on = is_search(id) and redis.call('HGET', sweep_key(id), 'closed') == CANCELLED
if goes_on then
  redis.call('HDEL', sweep_key(id), 'closed')
end
if #calls > 0 or goes_on then
  begin_anew(id)
end
return {1, next_position, calls}
