-- Keeps a worker among the living for a while. ARGV[2] is its name, ARGV[5] its queues with spaces between them.
local description, lifetime, queues_served = ARGV[3], ARGV[4], ARGV[5]
redis.call('SET', key('worker:' .. id), description, 'PX', lifetime)
redis.call('ZADD', key('workers'), now, id)
redis.call('HSET', key('workers:queues'), id, queues_served)
for _, name in ipairs(redis.call('ZRANGEBYSCORE', key('workers'), '-inf', now - lifetime)) do
  if redis.call('EXISTS', key('worker:' .. name)) == 0 then
    redis.call('ZREM', key('workers'), name)
    redis.call('HDEL', key('workers:queues'), name)
  end
end
