-- The first jobs of some queues that fit into a memory and for which nobody was woken for a while.
-- ARGV[2] is the memory; the queues stand from ARGV[5] on. The jobs count as woken from here on.
local memory_gb, older_than_ms, limit = tonumber(ARGV[2]), ARGV[3], ARGV[4]
local forgotten = {}
for position = 5, #ARGV do
  for _, job in ipairs(redis.call('ZRANGE', key('queued:' .. ARGV[position]), 0, limit - 1)) do
    local woken = tonumber(redis.call('ZSCORE', key('woken'), job) or 0)
    if now - woken >= tonumber(older_than_ms) and tonumber((get(job, 'memory_gb'))) <= memory_gb then
      redis.call('ZADD', key('woken'), now, job)
      table.insert(forgotten, job)
    end
  end
end
return forgotten
