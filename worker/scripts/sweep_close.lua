-- A sweep gets no further cells: it has ended once all of its jobs have.
if redis.call('EXISTS', sweep_key(id)) == 1 then
  redis.call('HSET', sweep_key(id), 'closed', 1)
  announce(id, redis.call('HINCRBY', sweep_key(id), 'version', 1))
end
