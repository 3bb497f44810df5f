-- Gives a queued job to a worker. Returns the epoch, or nothing if it is not to be had. May be repeated with its token.
local worker, lease_ms, memory_gb, token = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local epoch = claimed(id, lease_ms, token)
if epoch then
  return epoch
end
return is_to_be_had(id, memory_gb) and claim(id, worker, lease_ms, token, 1) or nil
