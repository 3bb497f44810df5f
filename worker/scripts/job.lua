-- Stands before every script, behind waiting.lua and folding.lua: the only ways in which a job changes.

-- Causes that another attempt may not meet again: where the submission sets no limit, they may end all attempts, and
-- any other cause one.
local REPEATABLE = {lost = true, oom = true}

-- A UUID of version 7 by the server's clock, with the last 64 bits as given; microseconds stand behind the milliseconds,
-- so ids keep their order.
local function new_id(kind, random)
  local fraction = math.floor((clock[2] % 1000) * 4.096)
  return string.format('%s_%06x%06x7%03x%s', kind, math.floor(now / 2^24), now % 2^24, fraction, random)
end

-- Makes a job that waits in its queue. `fields`: JSON with what the scripts need to know of it, by name.
local function make(job, request, fields, indexes)
  local flat = {}
  for name, text in pairs(cjson.decode(fields)) do
    table.insert(flat, name)
    table.insert(flat, text)
  end
  redis.call('HSET', record(job), 'format', FORMAT, 'request', request, 'attempt', 0, 'epoch', 0, 'created', now,
    unpack(flat))
  redis.call('ZADD', key('jobs'), 0, job)
  for _, index in ipairs(indexes) do
    redis.call('ZADD', key('index:' .. index), 0, job)
  end
  queue(job, '')
end

local function finish(job, status, reason)
  redis.call('ZREM', key('leases'), job)
  -- Who asked for it has said why.
  reason = status == 'cancelled' and get(job, 'cancelled_as') or reason
  redis.call('HDEL', record(job), 'asked', 'cancelled_as', 'reported', 'claim', 'beside')
  set(job, 'finished', now)
  enter(job, status, reason)
  if is_known(job) then
    fold(job)
  end
end

-- Ends an attempt without a result: the job waits for the next one, unless it was to be cancelled or paused.
local function requeue(job, reason, cancelled, paused)
  local asked = get(job, 'asked')
  if asked == 'cancel' then
    return finish(job, 'cancelled', cancelled)
  end
  redis.call('ZREM', key('leases'), job)
  redis.call('HDEL', record(job), 'asked')
  if asked == 'pause' then
    enter(job, 'paused', paused)
  else
    queue(job, reason)
  end
end

-- Counts an attempt that a cause has ended. Returns how many may follow.
local function count(job, cause)
  local attempt, max_attempts, limits, ended =
    get(job, 'attempt', 'max_attempts', 'max_attempts_by_cause', 'attempts_by_cause')
  limits, ended = cjson.decode(limits or '{}'), cjson.decode(ended or '{}')
  ended[cause] = (ended[cause] or 0) + 1
  set(job, 'attempts_by_cause', cjson.encode(ended))
  local limit = tonumber(limits[cause] or REPEATABLE[cause] and max_attempts or 1)
  return math.max(0, math.min(tonumber(max_attempts or 1) - tonumber(attempt), limit - ended[cause]))
end

-- Jobs that were trained side by side may have been too much together, whatever it looks like: a machine that has run
-- out of memory says so to nobody. So they are tried with half as many, and with the last attempt alone.
local function part(job, attempts_left)
  local beside = tonumber(get(job, 'beside') or 1)
  if beside > 1 then
    set(job, 'replicas', attempts_left > 1 and math.floor(beside / 2) or 1)
  end
end

-- Ends an attempt by a cause: the job waits for another one, or has failed. That an attempt vanished says nothing of
-- the job, so one that was to be cancelled is.
local function fail(job, cause, waiting, failed, failure, cancelled, paused)
  local attempts_left = count(job, cause)
  if cause == 'lost' then
    part(job, attempts_left)
  end
  if attempts_left > 0 or cause == 'lost' and get(job, 'asked') == 'cancel' then
    requeue(job, waiting, cancelled, paused)
  else
    set(job, 'error', failure)
    finish(job, 'failed', failed)
  end
end

-- Cancels a job that waits or is paused, asks the worker of one that runs. Returns whether that is allowed.
local function cancel(job, cancelled, requested)
  local status, asked = get(job, 'status', 'asked')
  if status == 'queued' or status == 'paused' then
    leave_queue(job)
    finish(job, 'cancelled', cancelled)
  elseif status == 'starting' or status == 'running' then
    if asked ~= 'cancel' then
      set(job, 'asked', 'cancel', 'cancelled_as', cancelled)
      enter(job, status, requested)
    end
  else
    return status == 'cancelled'
  end
  return true
end

-- Lets a job that failed or was cancelled wait for a worker again, with all its attempts. It goes on from its
-- checkpoints, and its epoch stays, for no attempt that has lost the job may ever write again. Returns whether that is
-- allowed.
local function retry(job)
  local status, condemned = get(job, 'status', 'condemned')
  if status ~= 'failed' and status ~= 'cancelled' or condemned or not is_known(job) then
    return false
  end
  unfold(job)
  redis.call('HDEL', record(job), 'error', 'finished', 'attempts_by_cause')
  set(job, 'attempt', 0)
  queue(job, '')
  return true
end

-- Removes a sweep that has no jobs and will get none, as one does that is not closed. Returns whether it is gone.
local function forget_if_empty(sweep)
  local name = key('sweep:' .. sweep)
  local is_open = redis.call('EXISTS', name) == 1 and redis.call('HEXISTS', name, 'closed') == 0
  if is_open or redis.call('EXISTS', key('index:sweep:' .. sweep)) == 1 then
    return false
  end
  local known = key('idempotency:' .. (redis.call('HGET', name, 'idempotency_key') or ''))
  if redis.call('HGET', known, 'sweep') == sweep then
    redis.call('DEL', known)
  end
  redis.call('DEL', name, name .. ':counts', name .. ':cells', name .. ':coordinates', name .. ':holder')
  redis.call('ZREM', key('sweeps'), sweep)
  redis.call('SREM', key('searches'), sweep)
  announce(sweep, 0)
  return true
end

-- Takes a job that has ended off its sweep, which goes with the last of them.
local function leave_sweep(sweep, job, status)
  local name = key('sweep:' .. sweep)
  redis.call('ZREM', key('index:sweep:' .. sweep), job)
  redis.call('HINCRBY', name .. ':counts', status, -1)
  if not forget_if_empty(sweep) then
    announce(sweep, redis.call('HINCRBY', name, 'version', 1))
  end
end

-- Removes a job that has ended, with everything the store knows of it. Returns whether that is allowed: a record in a
-- state that nobody knows is not one of a job under way.
local function forget(job, indexes)
  local fields, folded = unfolded(job)
  local status = fields.status or ''
  if is_under_way(status) then
    return false
  elseif not next(fields) then
    return true
  end
  for _, index in ipairs(indexes) do
    redis.call('ZREM', key('index:' .. index), job)
  end
  redis.call('ZREM', key('index:status:' .. status), job)
  redis.call('ZREM', key('jobs'), job)
  if folded.shares then
    unshare(folded.shares)
  end
  if fields.sweep then
    leave_sweep(fields.sweep, job, status)
  end
  local known = key('idempotency:' .. (fields.idempotency_key or ''))
  if fields.idempotency_key and redis.call('HGET', known, 'job') == job then
    redis.call('DEL', known)
  end
  announce(job, fields.version or 0)
  redis.call('DEL', record(job), key('events:' .. job))
  return true
end

-- Gives a job that waits to a worker, as one of `beside` that it trains side by side, with a new epoch and a lease.
-- Returns the epoch.
local function claim(job, worker, lease_ms, token, beside)
  leave_queue(job)
  redis.call('HINCRBY', record(job), 'attempt', 1)
  redis.call('ZADD', key('leases'), now + lease_ms, job)
  redis.call('HDEL', record(job), 'logged')
  set(job, 'worker', worker, 'started', get(job, 'started') or now, 'claim', token,
    'beside', beside)
  local epoch = redis.call('HINCRBY', record(job), 'epoch', 1)
  enter(job, 'starting', '')
  return epoch
end

-- The epoch of a claim that is repeated, with its token, because its answer got lost: the same until the job trains.
local function claimed(job, lease_ms, token)
  local status, known, epoch = get(job, 'status', 'claim', 'epoch')
  if status == 'starting' and known == token then
    redis.call('ZADD', key('leases'), now + lease_ms, job)
    return tonumber(epoch)
  end
end

-- Whether a job waits for a worker, and fits into that memory.
local function is_to_be_had(job, memory_gb)
  local status, needed = get(job, 'status', 'memory_gb')
  return status == 'queued' and tonumber(needed or 0) <= tonumber(memory_gb)
end

-- Whether the attempt with this epoch still has the job. An attempt that lost it must not change anything.
local function holds(job, epoch)
  local status, latest = get(job, 'status', 'epoch')
  return latest == epoch and (status == 'starting' or status == 'running')
end

-- The living workers: description and milliseconds since the last sign of life, one after the other.
local function living()
  local workers = {}
  for _, name in ipairs(redis.call('ZRANGE', key('workers'), 0, -1)) do
    local description = redis.call('GET', key('worker:' .. name))
    if description then
      table.insert(workers, description)
      table.insert(workers, now - redis.call('ZSCORE', key('workers'), name))
    end
  end
  return workers
end

-- Records of jobs, each with its place in its queue from 0, and the living workers if a job waits for one of them.
-- Jobs that are gone are left out.
local function shown(jobs)
  local found, workers = {}, {}
  for _, job in ipairs(jobs) do
    local fields, flat = unfolded(job), {}
    for name, text in pairs(fields) do
      table.insert(flat, name)
      table.insert(flat, text)
    end
    if #flat > 0 then
      local place = fields.status == 'queued' and redis.call('ZRANK', key('queued:' .. (fields.queue or '')), job)
      workers = place and #workers == 0 and living() or workers
      table.insert(found, {job, flat, place})
    end
  end
  return {found, workers}
end
