-- Extends the lease of an attempt. Returns what its supervisor is to do.
local epoch, lease_ms = ARGV[3], ARGV[4]
if not holds(id, epoch) then
  return 'fenced'
end
redis.call('ZADD', key('leases'), now + lease_ms, id)
return get(id, 'asked') or 'continue'
