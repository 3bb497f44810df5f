-- The first jobs of some queues that fit into a memory and for which nobody was woken for a while.
-- ARGV[2] is the memory; the queues stand from ARGV[5] on. The jobs count as woken from here on.
local memory_gb, older_than_ms, limit = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local function is_forgotten(job)
  return now - tonumber(redis.call('ZSCORE', key('woken'), job) or 0) >= older_than_ms
end

-- Only jobs that are given out count: others must not hide the ones behind them.
local function forgotten_of(queue)
  local found = {}
  for _, part in ipairs(fitting(queue, memory_gb)) do
    local left = limit
    visit_each(queue, part, function(job)
      if is_forgotten(job.id) then
        table.insert(found, job)
        left = left - 1
      end
      return left == 0
    end)
  end
  table.sort(found, is_before)
  return found
end

local forgotten = {}
for position = 5, #ARGV do
  local found = forgotten_of(key('queued:' .. ARGV[position]))
  for number = 1, math.min(limit, #found) do
    redis.call('ZADD', key('woken'), now, found[number].id)
    table.insert(forgotten, found[number].id)
  end
end
return forgotten
