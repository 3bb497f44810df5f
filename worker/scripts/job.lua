-- Stands before every script: the clock, the names of keys, and the only ways in which a job changes.
-- ARGV[1] is the prefix of all keys, ARGV[2] the job where a script is about one; the rest is the script's own.

local prefix, id = ARGV[1], ARGV[2]
-- Of the records that are written here; those of today have the number in `worker/record.py` too.
local FORMAT = 2
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- No entry of a job may ever be trimmed: the start of its curves would be gone without a word. A run has at most 10^6
-- logged points, thus as many entries of metrics, and its log is capped at 2^20 bytes, thus entries; the rest is few.
local ENTRIES, CHANGES = 4000000, 10000
-- Causes that another attempt may not meet again: where the submission sets no limit, they may end all attempts, and
-- any other cause one.
local REPEATABLE = {lost = true, oom = true}

local function key(name)
  return prefix .. name
end

local function record(job)
  return key('job:' .. job)
end

local function get(job, ...)
  return unpack(redis.call('HMGET', record(job), ...))
end

local function set(job, ...)
  redis.call('HSET', record(job), ...)
end

-- Tells those who wait for a change of any job.
local function announce(job, version)
  redis.call('XADD', key('changes'), 'MAXLEN', '~', CHANGES, '*', 'job', job, 'version', version)
end

local function changed(job)
  local version = redis.call('HINCRBY', record(job), 'version', 1)
  -- Nobody can wait for a job that is only just being made; those of a large sweep would drive out all other news.
  if version > 1 then
    announce(job, version)
  end
end

-- Adds an entry to what has happened in the job.
local function tell(job, kind, data, ...)
  redis.call('XADD', key('events:' .. job), 'MAXLEN', '~', ENTRIES, '*', kind, data, ...)
end

-- A sweep counts its jobs by state, so that how it stands can be told without a look at each of them.
local function recount(job, before, status)
  local sweep = get(job, 'sweep')
  if not sweep then
    return
  end
  local counts, name = key('sweep:' .. sweep .. ':counts'), key('sweep:' .. sweep)
  if before then
    redis.call('HINCRBY', counts, before, -1)
  end
  redis.call('HINCRBY', counts, status, 1)
  if status == 'starting' then
    redis.call('HSETNX', name, 'began', now)
  elseif status == 'succeeded' or status == 'failed' or status == 'cancelled' then
    redis.call('HSET', name, 'finished', now)
  end
  announce(sweep, redis.call('HINCRBY', name, 'version', 1))
end

local function enter(job, status, reason)
  local before = get(job, 'status')
  if before then
    redis.call('ZREM', key('index:status:' .. before), job)
  end
  recount(job, before, status)
  redis.call('ZADD', key('index:status:' .. status), 0, job)
  set(job, 'status', status, 'reason', reason)
  tell(job, 'state', '{"status":"' .. status .. '","reason":' .. (reason == '' and 'null' or reason) .. '}')
  changed(job)
end

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

-- What scripts read of jobs that have ended, or write then, beside the field that holds all the rest.
local UNFOLDED = {format = true, status = true, epoch = true, version = true, condemned = true, log_bytes = true,
  logged = true}

-- Jobs share the description of an environment, which most of them have in common; it goes with the last of them.
local function environment(digest)
  return key('environment:' .. digest)
end

local function share(text)
  local digest = redis.sha1hex(text)
  redis.call('HSET', environment(digest), 'text', text)
  redis.call('HINCRBY', environment(digest), 'jobs', 1)
  return digest
end

local function unshare(digest)
  if redis.call('HINCRBY', environment(digest), 'jobs', -1) == 0 then
    redis.call('DEL', environment(digest))
  end
end

local function is_under_way(status)
  return status == 'queued' or status == 'starting' or status == 'running' or status == 'paused'
end

-- Fields as one text, each as its name, the length of its value and that.
local function joined(fields)
  local parts = {}
  for name, text in pairs(fields) do
    table.insert(parts, name .. ' ' .. #text .. ' ' .. text)
  end
  return table.concat(parts)
end

local function parse(text)
  local fields, position = {}, 1
  repeat
    local _, last, name, length = text:find('^([%a_]+) (%d+) ', position)
    if last then
      fields[name] = text:sub(last + 1, last + length)
      position = last + length + 1
    end
  until not last
  return fields
end

-- All fields of a record by name, none if there is no such job; and what was folded.
local function unfolded(job)
  local flat, fields = redis.call('HGETALL', record(job)), {}
  for position = 1, #flat, 2 do
    fields[flat[position]] = flat[position + 1]
  end
  local folded = parse(fields.folded or '')
  for name, text in pairs(folded) do
    fields[name] = text
  end
  if folded.shares then
    fields.environment = redis.call('HGET', environment(folded.shares), 'text') or nil
  end
  fields.folded, fields.shares = nil, nil
  return fields, folded
end

local function replace(job, fields)
  local flat = {}
  for name, text in pairs(fields) do
    table.insert(flat, name)
    table.insert(flat, text)
  end
  redis.call('DEL', record(job))
  set(job, unpack(flat))
end

-- A stream has room for 4 KiB of further entries, which a copy of it has not.
local function tighten(job)
  local events = key('events:' .. job)
  redis.call('COPY', events, events .. ':copy', 'REPLACE')
  redis.call('RENAME', events .. ':copy', events)
end

-- Makes a job that has ended small. A field takes some 50 bytes beside its text, so most become one.
local function fold(job)
  local kept, folded = {}, {}
  for name, text in pairs((unfolded(job))) do
    if UNFOLDED[name] then
      kept[name] = text
    elseif name == 'environment' then
      folded.shares = share(text)
    elseif text ~= '' then
      folded[name] = text
    end
  end
  kept.format, kept.folded = FORMAT, joined(folded)
  replace(job, kept)
  tighten(job)
end

local function unfold(job)
  local fields, folded = unfolded(job)
  replace(job, fields)
  if folded.shares then
    unshare(folded.shares)
  end
end

-- What a newer version wrote may mean something else; it stays as it is.
local function is_known(job)
  return (tonumber(get(job, 'format') or 1) or FORMAT + 1) <= FORMAT
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
