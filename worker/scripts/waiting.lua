-- Stands before every script, behind keys.lua: how jobs wait for a worker.

-- The queue is ordered by priority, then by time of submission; ids of the same millisecond are ordered themselves.
-- Jobs that can be trained side by side, which have one form, stand in a queue of that form, too.
local function queues(job)
  local name, form = get(job, 'queue', 'form')
  return key('queued:' .. name), form and form ~= '' and key('queued:form:' .. form)
end

-- The needs of memory of the jobs that wait in a queue, in ascending order; and those of its jobs that need so much.
local function needs(queue)
  return queue .. ':needs'
end

local function of_need(queue, need)
  return queue .. ':' .. need
end

local function need_of(job)
  local need = get(job, 'memory_gb')
  return need and tonumber(need) and need or '0'
end

-- Jobs of one queue also stand in one of their need, so that nobody has to look at each of those that fit nowhere.
local function queue_by_need(queue, job, place)
  local need = need_of(job)
  redis.call('ZADD', of_need(queue, need), place, job)
  redis.call('ZADD', needs(queue), need, need)
end

local function leave_part(queue, need, job)
  local has_left = redis.call('ZREM', of_need(queue, need), job) == 1
  if redis.call('EXISTS', of_need(queue, need)) == 0 then
    redis.call('ZREM', needs(queue), need)
  end
  return has_left
end

local function leave_queue_by_need(queue, job)
  if not leave_part(queue, need_of(job), job) then
    -- The record is damaged, or of a version that knows no queues by need.
    for _, need in ipairs(redis.call('ZRANGE', needs(queue), 0, -1)) do
      leave_part(queue, need, job)
    end
  end
end

local function queue(job, reason)
  local priority, created = get(job, 'priority', 'created')
  local name, of_form = queues(job)
  local place = (9 - priority) * 1e13 + created
  redis.call('ZADD', name, place, job)
  queue_by_need(name, job, place)
  if of_form then
    redis.call('ZADD', of_form, place, job)
  end
  redis.call('ZADD', key('woken'), now, job)
  enter(job, 'queued', reason)
end

local function leave_queue(job)
  local name, of_form = queues(job)
  redis.call('ZREM', name, job)
  leave_queue_by_need(name, job)
  if of_form then
    redis.call('ZREM', of_form, job)
  end
  redis.call('ZREM', key('woken'), job)
end
