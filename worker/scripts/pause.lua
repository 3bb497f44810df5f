-- Pauses a job that waits, asks the worker of one that runs.
-- Returns whether that is allowed, and the job as it is shown.
local paused, requested = ARGV[3], ARGV[4]
local status, asked = get(id, 'status', 'asked')
local allowed = 1
if status == 'queued' then
  leave_queue(id)
  enter(id, 'paused', paused)
elseif (status == 'starting' or status == 'running') and not asked then
  set(id, 'asked', 'pause')
  enter(id, status, requested)
elseif status ~= 'paused' and asked ~= 'pause' then
  allowed = 0
end
return {allowed, shown({id})}
