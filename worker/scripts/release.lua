-- Hands a job back, unharmed: the attempt does not count. Returns the state of the job, which is paused where that was
-- asked for, or nothing if the attempt has lost it. ARGV[7]: how many jobs, itself included, it may be trained beside
-- from now on, or nothing.
local epoch, reason, cancelled, paused, replicas = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
if not holds(id, epoch) then
  return nil
end
redis.call('HINCRBY', record(id), 'attempt', -1)
if replicas and replicas ~= '' then
  set(id, 'replicas', replicas)
end
requeue(id, reason, cancelled, paused)
return (get(id, 'status'))
