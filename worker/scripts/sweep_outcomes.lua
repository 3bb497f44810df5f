-- What some jobs of a sweep have come to, behind the one in ARGV[3]: of each id, cell, seed, state, result, latest metrics,
-- progress and reason, empty where there is nothing. Returns them, and the position behind which to go on, empty at the end.
local jobs, position = jobs_behind(id, ARGV[3], ARGV[4])
local outcomes = {}
for _, job in ipairs(jobs) do
  local fields = unfolded(job)
  table.insert(outcomes, {
    job, fields.cell or '', fields.seed or '', fields.status or '', fields.result or '', fields.metrics or '',
    fields.progress or '', fields.reason or '',
  })
end
return {outcomes, position}
