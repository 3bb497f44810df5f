-- Ends an attempt that failed: for good, or, where another attempt may help and one is left, back to the queue.
-- Returns the state of the job, or nothing if the attempt has lost it.
local epoch, cause, reason, failure, cancelled, paused = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
if not holds(id, epoch) then
  return nil
end
fail(id, cause, reason, reason, failure, cancelled, paused)
return (get(id, 'status'))
