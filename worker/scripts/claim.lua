-- Gives a queued job to a worker, with a new epoch and a lease. Returns the epoch, or nothing if it is not to be had.
-- A claim may be repeated, with its token, if its answer got lost: it gives the same epoch until the job trains.
local worker, lease_ms, memory_gb, token = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local status, needed, started, claim, held = get(id, 'status', 'memory_gb', 'started', 'claim', 'epoch')
if status == 'starting' and claim == token then
  redis.call('ZADD', key('leases'), now + lease_ms, id)
  return tonumber(held)
end
if status ~= 'queued' or tonumber(needed or 0) > tonumber(memory_gb) then
  return nil
end
leave_queue(id)
redis.call('HINCRBY', record(id), 'attempt', 1)
redis.call('ZADD', key('leases'), now + lease_ms, id)
redis.call('HDEL', record(id), 'logged')
set(id, 'worker', worker, 'started', started or now, 'claim', token)
local epoch = redis.call('HINCRBY', record(id), 'epoch', 1)
enter(id, 'starting', '')
return epoch
