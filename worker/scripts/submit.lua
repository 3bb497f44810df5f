-- Accepts a job, or finds the one that an earlier request with the same idempotency key made.
-- ARGV[2]: the random part of the id; the indexes that the job stands in come from ARGV[8] on.
-- Returns what happened, and the job as it is shown.
local idempotency_key, fingerprint, lifetime, request, fields = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]

if idempotency_key ~= '' then
  local known_fingerprint, known = unpack(redis.call('HMGET', key('idempotency:' .. idempotency_key), 'fingerprint', 'job'))
  if known and redis.call('EXISTS', record(known)) == 1 then
    return {known_fingerprint == fingerprint and 'replayed' or 'mismatch', shown({known})}
  end
end

local job, indexes = new_id('job', ARGV[2]), {}
for position = 8, #ARGV do
  table.insert(indexes, ARGV[position])
end
make(job, request, fields, indexes)

if idempotency_key ~= '' then
  redis.call('HSET', key('idempotency:' .. idempotency_key), 'fingerprint', fingerprint, 'job', job)
  redis.call('PEXPIRE', key('idempotency:' .. idempotency_key), lifetime)
  set(job, 'idempotency_key', idempotency_key)
end
return {'created', shown({job})}
