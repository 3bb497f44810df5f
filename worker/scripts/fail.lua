-- Ends an attempt that failed: for good, or, where another attempt may help and one is left, back to the queue.
-- Returns the state of the job, or nothing if the attempt has lost it.
local epoch, reason, failure, repeatable, cancelled = ARGV[3], ARGV[4], ARGV[5], ARGV[6] == '1', ARGV[7]
if not holds(id, epoch) then
  return nil
end
local attempt, max_attempts = get(id, 'attempt', 'max_attempts')
if repeatable and tonumber(attempt) < tonumber(max_attempts) then
  requeue(id, reason, cancelled)
else
  set(id, 'error', failure)
  finish(id, 'failed', reason)
end
return (get(id, 'status'))
