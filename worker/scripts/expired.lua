-- Some of the jobs that have ended and are to be kept no longer, oldest first. Nobody can bring them back from here on.
-- ARGV[2]: for how long jobs are kept, in ms, or nothing; ARGV[3]: how many, or nothing; ARGV[4]: how many to return.
local keep_ms, keep, limit = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local ENDED = {'succeeded', 'failed', 'cancelled'}

-- Jobs of each state are in order of their submission; one that ended later than others may stand before them.
local function oldest(count, highest)
  local jobs = {}
  for _, status in ipairs(ENDED) do
    for _, job in ipairs(redis.call('ZRANGEBYLEX', key('index:status:' .. status), '-', highest, 'LIMIT', 0, count)) do
      table.insert(jobs, {id = job, finished = tonumber(unfolded(job).finished or 0)})
    end
  end
  table.sort(jobs, function(one, other)
    if one.finished == other.finished then
      return one.id < other.id
    end
    return one.finished < other.finished
  end)
  return jobs
end

local expired, known = {}, {}
local function expire(job)
  if not known[job.id] and #expired < limit then
    known[job.id] = true
    set(job.id, 'condemned', 1)
    table.insert(expired, job.id)
  end
end

if keep_ms then
  -- Ids begin with the time of submission: those that were submitted since have not ended before.
  local before = now - keep_ms
  for _, job in ipairs(oldest(math.max(4 * limit, 500), string.format('(job_%06x%06x', math.floor(before / 2^24), before % 2^24))) do
    if job.finished < before then
      expire(job)
    end
  end
end
if keep then
  local excess = -keep
  for _, status in ipairs(ENDED) do
    excess = excess + redis.call('ZCARD', key('index:status:' .. status))
  end
  if excess > 0 then
    local jobs = oldest(math.min(excess, limit) + limit, '+')
    for place = 1, math.min(excess, #jobs) do
      expire(jobs[place])
    end
  end
end
return expired
