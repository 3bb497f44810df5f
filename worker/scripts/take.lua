-- Gives a worker the job that it should start next, the first of its queues that fits, and others of the same form to
-- train beside it. ARGV[6]: how many in all, at most; the queues stand from ARGV[7] on.
-- Returns the jobs, each with its epoch; none if none is to be had. May be repeated with its token.
local worker, lease_ms, memory_gb, token, most = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local PAGE = 100

-- The first of the jobs of a queue that are to be had, and its place.
local function first_of(queue)
  local position = 0
  repeat
    local page = redis.call('ZRANGE', queue, position, position + PAGE - 1, 'WITHSCORES')
    for entry = 1, #page, 2 do
      if is_to_be_had(page[entry], memory_gb) then
        return page[entry], tonumber(page[entry + 1])
      end
    end
    position = position + PAGE
  until #page < 2 * PAGE
end

local function first()
  local best, place
  for position = 7, #ARGV do
    local job, other = first_of(key('queued:' .. ARGV[position]))
    if job and (not best or other < place or other == place and job < best) then
      best, place = job, other
    end
  end
  return best
end

-- How many workers that serve a queue have no job, this one among them.
local function free_workers(queue)
  local busy, free = {[worker] = true}, 1
  for _, job in ipairs(redis.call('ZRANGE', key('leases'), 0, -1)) do
    busy[get(job, 'worker') or ''] = true
  end
  local known = living()
  for position = 1, #known, 2 do
    local other = cjson.decode(known[position])
    for _, served in ipairs(busy[other.name] and {} or other.queues) do
      free = free + (served == queue and 1 or 0)
    end
  end
  return free
end

-- How many jobs of a form one worker should train side by side: as many as fit, but where no other job waits for the
-- other workers, so few that each of them gets some.
local function share(form, job)
  local needed, replicas, queue = get(job, 'memory_gb', 'replicas', 'queue')
  local waiting = redis.call('ZCARD', form)
  local others = redis.call('ZCARD', key('queued:' .. queue)) - waiting
  local limit = math.min(most, tonumber(replicas or most), math.ceil(waiting / math.max(1, free_workers(queue) - others)))
  needed = tonumber(needed or 0)
  return needed > 0 and math.min(limit, math.floor(memory_gb / needed)) or limit
end

local function together_with(job)
  local jobs, form = {job}, get(job, 'form') or ''
  local queue = key('queued:form:' .. form)
  local limit = form ~= '' and most > 1 and share(queue, job) or 1
  local page = limit > 1 and redis.call('ZRANGE', queue, 0, 4 * limit) or {}
  for _, other in ipairs(page) do
    local replicas = tonumber(get(other, 'replicas') or limit)
    if #jobs < limit and other ~= job and replicas >= limit and is_to_be_had(other, memory_gb) then
      table.insert(jobs, other)
    end
  end
  return jobs
end

local taken = {}
for _, job in ipairs(redis.call('ZRANGE', key('leases'), 0, -1)) do
  local epoch = claimed(job, lease_ms, token)
  if epoch then
    table.insert(taken, {job, epoch})
  end
end
local best = #taken == 0 and first()
for _, job in ipairs(best and together_with(best) or {}) do
  table.insert(taken, {job, claim(job, worker, lease_ms, token)})
end
return taken
