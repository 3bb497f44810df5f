-- Stands before every script: the clock, the names of keys, and how a job comes to a state and tells so.
-- ARGV[1] is the prefix of all keys, ARGV[2] the job where a script is about one; the rest is the script's own.

local prefix, id = ARGV[1], ARGV[2]
-- Of the records that are written here; those of today have the number in `worker/record.py` too.
local FORMAT = 2
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- No entry of a job may ever be trimmed: the start of its curves would be gone without a word. A run has at most 10^6
-- logged points, thus as many entries of metrics, and its log is capped at 2^20 bytes, thus entries; the rest is few.
local ENTRIES, CHANGES = 4000000, 10000

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
