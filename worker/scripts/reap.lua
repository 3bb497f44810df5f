-- Ends the attempts whose lease has run out, oldest first. Returns the jobs that wait again.
local reason, failed, failure, cancelled, paused = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local waiting = {}
for _, job in ipairs(redis.call('ZRANGEBYSCORE', key('leases'), '-inf', now, 'LIMIT', 0, 100)) do
  fail(job, 'lost', reason, failed, failure, cancelled, paused)
  if get(job, 'status') == 'queued' then
    table.insert(waiting, job)
  end
end
return waiting
