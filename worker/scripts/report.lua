-- Progress of an attempt, and the points that its series of metrics gained up to a step. A report may be repeated
-- if its answer got lost: points are taken once.
local epoch, step, series, progress, latest = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
if not holds(id, epoch) then
  return 0
end
if series ~= '' and tonumber(step) > tonumber(get(id, 'reported') or 0) then
  tell(id, 'metrics', series, 'step', step)
  set(id, 'reported', step)
end
set(id, 'progress', progress, 'metrics', latest)
changed(id)
return 1
