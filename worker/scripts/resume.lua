-- Lets a paused job wait for a worker again, or withdraws the request to pause one that runs: where its training
-- process is ending for it already, release.lua finds no request and puts the job back into its queue.
-- Returns whether that is allowed, and the job as it is shown.
local status, asked = get(id, 'status', 'asked')
local allowed = 1
if status == 'paused' then
  queue(id, '')
elseif asked == 'pause' then
  redis.call('HDEL', record(id), 'asked')
  enter(id, status, '')
else
  allowed = 0
end
return {allowed, shown({id})}
