-- Ends a job with its result; from here on its artefacts are visible.
local epoch, result, artifacts, progress = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if not holds(id, epoch) then
  return 0
end
set(id, 'result', result, 'artifacts', artifacts, 'progress', progress)
-- The result has the latest values, the request the rest, which only jobs need that may wait for a worker again.
redis.call('HDEL', record(id), 'checkpoints', 'metrics', 'queue', 'priority', 'memory_gb', 'max_attempts',
  'max_attempts_by_cause', 'attempts_by_cause', 'form', 'replicas')
finish(id, 'succeeded', '')
return 1
