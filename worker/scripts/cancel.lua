-- Cancels a job that waits or is paused, asks the worker of one that runs. Returns whether that is allowed, and the job
-- as it is shown.
local cancelled, requested = ARGV[3], ARGV[4]
local status, asked = get(id, 'status', 'asked')
local allowed = 1
if status == 'queued' or status == 'paused' then
  leave_queue(id)
  finish(id, 'cancelled', cancelled)
elseif status == 'starting' or status == 'running' then
  if asked ~= 'cancel' then
    set(id, 'asked', 'cancel')
    enter(id, status, requested)
  end
elseif status ~= 'cancelled' then
  allowed = 0
end
return {allowed, shown({id})}
