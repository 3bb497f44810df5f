-- Has a sweep whose jobs have all ended get no further ones, for it is about to be removed.
-- Returns whether that is allowed, and the sweep as it is shown.
local allowed = number_of_ended(id) == redis.call('ZCARD', key('index:sweep:' .. id))
if allowed and redis.call('EXISTS', sweep_key(id)) == 1 then
  redis.call('HSET', sweep_key(id), 'condemned', 1, 'closed', 1)
end
return {allowed and 1 or 0, shown_sweeps({id})}
