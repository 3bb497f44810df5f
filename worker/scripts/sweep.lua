-- Stands before the scripts about sweeps: how a sweep gets its jobs, and how it is shown.
-- ARGV[2] is the sweep, where a script is about one.

-- Of the records of sweeps that are written here; `worker/sweep_record.py` has it, too.
local SWEEP_FORMAT = 1
-- What a sweep has as `closed` where somebody cancelled it; `worker/sweep_record.py` has it, too.
local CANCELLED = 'cancelled'
-- Running jobs of which the progress is looked at; with more of them, how far each is hardly matters.
local MOST_RUNNING = 1000
-- A worker that was woken goes on to the jobs behind; more calls than there may be workers are of no use.
local MOST_CALLS = 256

local function sweep_key(sweep)
  return key('sweep:' .. sweep)
end

-- The jobs for which workers are to be woken, as id, queue and priority in turn.
local calls = {}

local function call(job)
  if #calls < 3 * MOST_CALLS then
    local name, priority = get(job, 'queue', 'priority')
    table.insert(calls, job)
    table.insert(calls, name)
    table.insert(calls, priority)
  end
end

-- Makes the jobs of some cells with some seeds.
-- `cells`: of each its number from 0, and JSON with the `fields`, the `indexes` and the `request` of its jobs, which
-- lacks the seed; and its own `seeds` where it is to have others. `random`: the last 16 digits of ids, of which six give
-- way to a number that keeps their order.
local function make_jobs(sweep, cells, seeds, random)
  local made, index = 0, 'sweep:' .. sweep
  for _, cell in ipairs(cells) do
    local about = cjson.decode(cell.text)
    table.insert(about.indexes, index)
    for _, number in ipairs(cell.seeds or seeds) do
      local seed = string.format('%.0f', number)
      local job = new_id('job', random:sub(1, 1) .. string.format('%06x', made) .. random:sub(8))
      make(job, '{"seed":' .. seed .. ',' .. about.request:sub(2), about.fields, about.indexes)
      -- Only now is it part of the sweep, which counts them all at once.
      set(job, 'sweep', sweep, 'cell', cell.number, 'seed', seed)
      tighten(job)
      call(job)
      made = made + 1
    end
  end
  redis.call('HINCRBY', sweep_key(sweep) .. ':counts', 'queued', made)
  redis.call('HINCRBY', sweep_key(sweep), 'made', made)
end

-- Adds cells behind those that there are, from ARGV[first] on as coordinates and what is known of its jobs in turn.
local function add_cells(sweep, first)
  local name, cells = sweep_key(sweep), {}
  local number = redis.call('LLEN', name .. ':cells')
  for position = first, #ARGV, 2 do
    redis.call('RPUSH', name .. ':coordinates', ARGV[position])
    redis.call('RPUSH', name .. ':cells', ARGV[position + 1])
    table.insert(cells, {number = number, text = ARGV[position + 1]})
    number = number + 1
  end
  return cells
end

local function number_of_ended(sweep)
  local ended = 0
  for _, count in ipairs(redis.call('HMGET', sweep_key(sweep) .. ':counts', 'succeeded', 'failed', 'cancelled')) do
    ended = ended + tonumber(count or 0)
  end
  return ended
end

local function is_search(sweep)
  return redis.call('HEXISTS', sweep_key(sweep), 'search') == 1
end

-- Workers look after a search: they add cells, and close it once there is nothing left to do.
local function have_looked_after(sweep)
  if is_search(sweep) then
    redis.call('SADD', key('searches'), sweep)
    if redis.call('HGET', sweep_key(sweep), 'closed') ~= CANCELLED then
      redis.call('HDEL', sweep_key(sweep), 'closed')
    end
  end
end

-- How fast it goes on is judged anew from here on.
local function begin_anew(sweep)
  have_looked_after(sweep)
  redis.call('HSET', sweep_key(sweep), 'ended_before', number_of_ended(sweep))
  redis.call('HDEL', sweep_key(sweep), 'began')
  announce(sweep, redis.call('HINCRBY', sweep_key(sweep), 'version', 1))
end

-- Some jobs of a sweep in their order, behind one of them, or from the first on where `position` is empty.
-- Returns them and the position behind which to go on, empty at the end.
local function jobs_behind(sweep, position, limit)
  local lowest = position == '' and '-' or '(' .. position
  local jobs = redis.call('ZRANGEBYLEX', key('index:sweep:' .. sweep), lowest, '+', 'LIMIT', 0, limit)
  return jobs, #jobs == tonumber(limit) and jobs[#jobs] or ''
end

-- Percent done of running jobs, summed up by sweep.
local function under_way()
  local done = {}
  for _, job in ipairs(redis.call('ZRANGE', key('index:status:running'), 0, MOST_RUNNING - 1)) do
    local sweep, progress = get(job, 'sweep', 'progress')
    if sweep and progress then
      done[sweep] = (done[sweep] or 0) + (cjson.decode(progress).percent or 0)
    end
  end
  return done
end

-- The clock, and records of sweeps: each with its cells, how many of its jobs are in each state, and the percent done
-- of those that run, summed up. Sweeps that are gone are left out.
local function shown_sweeps(sweeps)
  local found, done = {}, under_way()
  for _, sweep in ipairs(sweeps) do
    local name = sweep_key(sweep)
    local fields = redis.call('HGETALL', name)
    if #fields > 0 then
      local cells, counts = redis.call('LLEN', name .. ':cells'), redis.call('HGETALL', name .. ':counts')
      table.insert(found, {sweep, fields, cells, counts, tostring(done[sweep] or 0)})
    end
  end
  return {now, found}
end
