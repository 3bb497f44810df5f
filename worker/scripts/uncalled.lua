-- A job that fits into a memory, ARGV[2], and waits in a queue in which no message lies that would wake a worker; the
-- first of the first such queue. The queues stand from ARGV[3] on, each as JSON of its name and of the keys under which
-- messages of it lie. Returns its id, queue and priority; nothing if there is none. It counts as woken from here on.
local memory_gb = ARGV[2]
for position = 3, #ARGV do
  local queue, messages = unpack(cjson.decode(ARGV[position]))
  local job = redis.call('EXISTS', unpack(messages)) == 0 and first_of(key('queued:' .. queue), memory_gb)
  if job then
    redis.call('ZADD', key('woken'), now, job.id)
    return {job.id, queue, (get(job.id, 'priority'))}
  end
end
return nil
