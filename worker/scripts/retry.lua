-- Lets a job that failed or was cancelled wait for a worker again, with all its attempts. It goes on from its
-- checkpoints, and its epoch stays, for no attempt that has lost the job may ever write again.
-- Returns whether that is allowed, and the job as it is shown.
local status, condemned = get(id, 'status', 'condemned')
if status ~= 'failed' and status ~= 'cancelled' or condemned or not is_known(id) then
  return {0, shown({id})}
end
unfold(id)
redis.call('HDEL', record(id), 'error', 'finished', 'attempts_by_cause')
set(id, 'attempt', 0)
queue(id, '')
return {1, shown({id})}
