-- The searches that have to be looked after, but for those that another worker has taken. ARGV[2]: who asks, and takes
-- them; ARGV[3]: for how many ms.
local worker, taken_ms = ARGV[2], ARGV[3]
local found = {}
for _, sweep in ipairs(redis.call('SMEMBERS', key('searches'))) do
  local holder = redis.call('GET', sweep_key(sweep) .. ':holder')
  if redis.call('EXISTS', sweep_key(sweep)) == 0 then
    redis.call('SREM', key('searches'), sweep)
  elseif not holder or holder == worker then
    redis.call('SET', sweep_key(sweep) .. ':holder', worker, 'PX', taken_ms)
    table.insert(found, sweep)
  end
end
return found
