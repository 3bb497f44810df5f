-- Accepts a job, or finds the one that an earlier request with the same idempotency key made.
-- ARGV[2]: the random part of the id. Returns what happened, and the job as it is shown.
local idempotency_key, fingerprint, lifetime = ARGV[3], ARGV[4], ARGV[5]
local request, name, priority, memory_gb = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local max_attempts, max_attempts_by_cause = ARGV[10], ARGV[11]

if idempotency_key ~= '' then
  local known_fingerprint, known = unpack(redis.call('HMGET', key('idempotency:' .. idempotency_key), 'fingerprint', 'job'))
  if known and redis.call('EXISTS', record(known)) == 1 then
    return {known_fingerprint == fingerprint and 'replayed' or 'mismatch', shown({known})}
  end
end

-- UUID version 7 by the server's clock; microseconds stand behind the milliseconds, so ids keep their order.
local fraction = math.floor((clock[2] % 1000) * 4.096)
local job = string.format('job_%06x%06x7%03x%s', math.floor(now / 2^24), now % 2^24, fraction, ARGV[2])

redis.call('HSET', record(job), 'format', FORMAT, 'request', request, 'queue', name, 'priority', priority, 'memory_gb', memory_gb,
  'max_attempts', max_attempts, 'max_attempts_by_cause', max_attempts_by_cause,
  'attempt', 0, 'epoch', 0, 'created', now)
redis.call('ZADD', key('jobs'), 0, job)
for position = 12, #ARGV do
  redis.call('ZADD', key('index:' .. ARGV[position]), 0, job)
end
queue(job, '')

if idempotency_key ~= '' then
  redis.call('HSET', key('idempotency:' .. idempotency_key), 'fingerprint', fingerprint, 'job', job)
  redis.call('PEXPIRE', key('idempotency:' .. idempotency_key), lifetime)
  set(job, 'idempotency_key', idempotency_key)
end
return {'created', shown({job})}
