-- Has a closed sweep whose jobs have all ended get no further ones, for it is about to be removed: with its last job, or
-- at once if it never had any. Returns whether that is allowed, and the sweep as it was.
local shown, jobs = shown_sweeps({id}), redis.call('ZCARD', key('index:sweep:' .. id))
local allowed = redis.call('HEXISTS', sweep_key(id), 'closed') == 1 and number_of_ended(id) == jobs
if allowed then
  redis.call('HSET', sweep_key(id), 'condemned', 1)
  forget_if_empty(id)
end
return {allowed and 1 or 0, shown}
