-- Hands a job back, unharmed: the attempt does not count. Returns the state of the job, which is paused where that was
-- asked for, or nothing if the attempt has lost it.
local epoch, reason, cancelled, paused = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if not holds(id, epoch) then
  return nil
end
redis.call('HINCRBY', record(id), 'attempt', -1)
requeue(id, reason, cancelled, paused)
return (get(id, 'status'))
