-- Extends the leases of attempts. ARGV[2]: for how long, in ms; the jobs stand from ARGV[3] on, each with its epoch.
-- Returns what its supervisor is to do with each.
local lease_ms, orders = ARGV[2], {}
for position = 3, #ARGV, 2 do
  local job, order = ARGV[position], 'fenced'
  if holds(job, ARGV[position + 1]) then
    redis.call('ZADD', key('leases'), now + lease_ms, job)
    order = get(job, 'asked') or 'continue'
  end
  table.insert(orders, order)
end
return orders
