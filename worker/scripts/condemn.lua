-- Has a job that has ended stay so, for its files are about to be removed. Returns whether that is allowed, and the job
-- as it is shown.
local status = get(id, 'status')
local allowed = redis.call('EXISTS', record(id)) == 1 and not is_under_way(status)
if allowed then
  set(id, 'condemned', 1)
end
return {allowed and 1 or 0, shown({id})}
