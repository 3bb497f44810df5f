-- Gives a queued job to a worker, with a new epoch and a lease. Returns the epoch, or nothing if it is not to be had.
local worker, lease_ms, memory_gb = ARGV[3], ARGV[4], ARGV[5]
local status, needed, started = get(id, 'status', 'memory_gb', 'started')
if status ~= 'queued' or tonumber(needed) > tonumber(memory_gb) then
  return nil
end
leave_queue(id)
redis.call('HINCRBY', record(id), 'attempt', 1)
redis.call('ZADD', key('leases'), now + lease_ms, id)
set(id, 'worker', worker, 'started', started or now)
local epoch = redis.call('HINCRBY', record(id), 'epoch', 1)
enter(id, 'starting', '')
return epoch
