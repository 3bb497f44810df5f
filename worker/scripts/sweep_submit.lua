-- Accepts a sweep with all its jobs, or finds the one that an earlier request with the same idempotency key made.
-- ARGV[2]: the random part of ids; ARGV[6]: the record's fields, as JSON; ARGV[7]: the seeds, as JSON; cells stand from
-- ARGV[8] on. Returns what happened, the sweep as it is shown, and the calls for workers.
local random, idempotency_key, fingerprint, lifetime, fields = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

if idempotency_key ~= '' then
  local known_fingerprint, known =
    unpack(redis.call('HMGET', key('idempotency:' .. idempotency_key), 'fingerprint', 'sweep'))
  if known and redis.call('EXISTS', sweep_key(known)) == 1 then
    return {known_fingerprint == fingerprint and 'replayed' or 'mismatch', shown_sweeps({known}), {}}
  end
end

local sweep = new_id('sweep', random)
for name, text in pairs(cjson.decode(fields)) do
  redis.call('HSET', sweep_key(sweep), name, text)
end
redis.call('HSET', sweep_key(sweep), 'format', SWEEP_FORMAT, 'created', now, 'version', 1, 'ended_before', 0)
redis.call('ZADD', key('sweeps'), 0, sweep)
make_jobs(sweep, add_cells(sweep, 8), cjson.decode(ARGV[7]), random)
have_looked_after(sweep)

if idempotency_key ~= '' then
  redis.call('HSET', key('idempotency:' .. idempotency_key), 'fingerprint', fingerprint, 'sweep', sweep)
  redis.call('PEXPIRE', key('idempotency:' .. idempotency_key), lifetime)
  redis.call('HSET', sweep_key(sweep), 'idempotency_key', idempotency_key)
end
return {'created', shown_sweeps({sweep}), calls}
