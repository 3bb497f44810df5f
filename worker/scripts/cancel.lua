-- Cancels a job that waits, asks the worker of one that runs. Returns whether that is allowed.
local cancelled, requested = ARGV[3], ARGV[4]
local status, asked = get(id, 'status', 'cancel')
if status == 'queued' then
  leave_queue(id)
  finish(id, 'cancelled', cancelled)
elseif status == 'paused' then
  finish(id, 'cancelled', cancelled)
elseif status == 'starting' or status == 'running' then
  if not asked then
    set(id, 'cancel', 1)
    enter(id, status, requested)
  end
elseif status ~= 'cancelled' then
  return 0
end
return 1
