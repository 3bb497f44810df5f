-- Ends an attempt on request: the job is cancelled.
local epoch, reason = ARGV[3], ARGV[4]
if not holds(id, epoch) then
  return 0
end
finish(id, 'cancelled', reason)
return 1
