-- Hands a job back, unharmed: the attempt does not count.
local epoch, reason, cancelled = ARGV[3], ARGV[4], ARGV[5]
if not holds(id, epoch) then
  return 0
end
redis.call('HINCRBY', record(id), 'attempt', -1)
requeue(id, reason, cancelled)
return 1
