-- Gives a worker the job that it should start next, the first of its queues that fits, and others of the same form to
-- train beside it. ARGV[6]: how many in all, at most; the queues stand from ARGV[7] on.
-- Returns the jobs, each with its epoch; none if none is to be had. May be repeated with its token.
local worker, lease_ms, memory_gb, token, most = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])

local function first()
  local best
  for position = 7, #ARGV do
    local job = first_of(key('queued:' .. ARGV[position]), memory_gb)
    best = job and (not best or is_before(job, best)) and job or best
  end
  return best and best.id
end

-- How many workers that serve a queue have no job, this one among them.
local function free_workers(queue)
  local busy, free = {[worker] = true}, 1
  for _, job in ipairs(redis.call('ZRANGE', key('leases'), 0, -1)) do
    busy[get(job, 'worker') or ''] = true
  end
  local known = redis.call('HGETALL', key('workers:queues'))
  for position = 1, #known, 2 do
    local serves = (' ' .. known[position + 1] .. ' '):find(' ' .. queue .. ' ', 1, true)
    free = free + (serves and not busy[known[position]] and 1 or 0)
  end
  return free
end

-- How many jobs of a form one worker should train side by side: as many as fit, but where no other job waits for the
-- other workers, so few that each of them gets some.
local function share(form, job)
  local needed, replicas, queue = get(job, 'memory_gb', 'replicas', 'queue')
  local waiting = redis.call('ZCARD', form)
  local others = redis.call('ZCARD', key('queued:' .. queue)) - waiting
  local limit = math.min(most, tonumber(replicas or most), waiting)
  -- Where all workers there are could have as many, it does not matter how many of them are free.
  local most_free = redis.call('ZCARD', key('workers')) + 1 - others
  if most_free > 1 and waiting < limit * most_free then
    limit = math.min(limit, math.ceil(waiting / math.max(1, free_workers(queue) - others)))
  end
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
for _, job in ipairs(redis.call('ZRANGE', key('index:status:starting'), 0, -1)) do
  local epoch = claimed(job, lease_ms, token)
  if epoch then
    table.insert(taken, {job, epoch})
  end
end
local best = #taken == 0 and first()
local jobs = best and together_with(best) or {}
for _, job in ipairs(jobs) do
  table.insert(taken, {job, claim(job, worker, lease_ms, token, #jobs)})
end
return taken
