-- The first jobs of some queues that fit into a memory and for which nobody was woken for a while.
-- ARGV[2] is the memory; the queues stand from ARGV[5] on. The jobs count as woken from here on.
local memory_gb, older_than_ms, limit = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local PAGE = 100

local function is_forgotten(job)
  local woken = tonumber(redis.call('ZSCORE', key('woken'), job) or 0)
  return now - woken >= older_than_ms and tonumber(get(job, 'memory_gb') or 0) <= memory_gb
end

local forgotten = {}
for position = 5, #ARGV do
  local first, found = 0, 0
  repeat
    -- Only jobs that are given out count: those that fit nowhere must not hide the ones behind them.
    local page = redis.call('ZRANGE', key('queued:' .. ARGV[position]), first, first + PAGE - 1)
    for _, job in ipairs(page) do
      if found < limit and is_forgotten(job) then
        redis.call('ZADD', key('woken'), now, job)
        table.insert(forgotten, job)
        found = found + 1
      end
    end
    first = first + PAGE
  until found >= limit or #page < PAGE
end
return forgotten
