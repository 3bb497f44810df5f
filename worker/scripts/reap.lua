-- Ends the attempts whose lease has run out, oldest first. Returns the jobs that wait again.
local reason, failed, failure, cancelled = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local waiting = {}
for _, job in ipairs(redis.call('ZRANGEBYSCORE', key('leases'), '-inf', now, 'LIMIT', 0, 100)) do
  local attempt, max_attempts = get(job, 'attempt', 'max_attempts')
  if tonumber(attempt) < tonumber(max_attempts) or get(job, 'cancel') then
    requeue(job, reason, cancelled)
  else
    set(job, 'error', failure)
    finish(job, 'failed', failed)
  end
  if get(job, 'status') == 'queued' then
    table.insert(waiting, job)
  end
end
return waiting
