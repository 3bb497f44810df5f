-- Takes a worker off the living. ARGV[2] is its name.
redis.call('DEL', key('worker:' .. id))
redis.call('ZREM', key('workers'), id)
redis.call('HDEL', key('workers:queues'), id)
