-- Keeps a worker among the living for a while. ARGV[2] is its name.
local description, lifetime = ARGV[3], ARGV[4]
redis.call('SET', key('worker:' .. id), description, 'PX', lifetime)
redis.call('ZADD', key('workers'), now, id)
for _, name in ipairs(redis.call('ZRANGEBYSCORE', key('workers'), '-inf', now - lifetime)) do
  if redis.call('EXISTS', key('worker:' .. name)) == 0 then
    redis.call('ZREM', key('workers'), name)
  end
end
