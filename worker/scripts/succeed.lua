-- Ends a job with its result; from here on its artefacts are visible.
local epoch, result, artifacts, progress = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if not holds(id, epoch) then
  return 0
end
set(id, 'result', result, 'artifacts', artifacts, 'progress', progress)
redis.call('HDEL', record(id), 'checkpoints', 'metrics') -- the result has the latest values
finish(id, 'succeeded', '')
return 1
