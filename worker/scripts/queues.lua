-- Stands before the scripts that look for jobs that wait.
local PAGE = 100

-- Versions that know no queues by need leave them as they are, whether they add a job or take one.
local function set_right(queue)
  local known, jobs = redis.call('ZRANGE', needs(queue), 0, -1), 0
  for _, need in ipairs(known) do
    jobs = jobs + redis.call('ZCARD', of_need(queue, need))
  end
  if jobs == redis.call('ZCARD', queue) then
    return
  end
  for _, need in ipairs(known) do
    redis.call('DEL', of_need(queue, need))
  end
  redis.call('DEL', needs(queue))
  local waiting = redis.call('ZRANGE', queue, 0, -1, 'WITHSCORES')
  for entry = 1, #waiting, 2 do
    queue_by_need(queue, waiting[entry], waiting[entry + 1])
  end
end

-- The parts of a queue whose jobs fit into a memory.
local function fitting(queue, memory_gb)
  set_right(queue)
  local parts = {}
  for _, need in ipairs(redis.call('ZRANGEBYSCORE', needs(queue), '-inf', memory_gb)) do
    table.insert(parts, of_need(queue, need))
  end
  return parts
end

local function is_before(one, other)
  return one.place < other.place or one.place == other.place and one.id < other.id
end

-- Calls a function with the jobs of a part of a queue, each with its place, until it returns true.
local function visit_each(queue, part, visit)
  local first = 0
  repeat
    local page = redis.call('ZRANGE', part, first, first + PAGE - 1, 'WITHSCORES')
    for entry = 1, #page, 2 do
      local job = {id = page[entry], place = tonumber(page[entry + 1])}
      if get(job.id, 'status') ~= 'queued' then
        -- A version that knows no parts has taken it from the queue. What that has added instead is found then.
        redis.call('ZREM', part, job.id)
        redis.call('ZREM', queue, job.id)
        first = first - 1
      elseif visit(job) then
        return
      end
    end
    first = first + PAGE
  until #page < 2 * PAGE
end

-- The first job of a queue that waits and fits into a memory.
local function first_of(queue, memory_gb)
  local best
  for _, part in ipairs(fitting(queue, memory_gb)) do
    visit_each(queue, part, function(job)
      best = (not best or is_before(job, best)) and job or best
      return true
    end)
  end
  return best
end
