-- Some jobs of a sweep that is to go, behind the one in ARGV[3]: those that have ended, and stay so from here on.
-- Returns the ids of those that may have files, then of those that were never started, and the position behind which to
-- go on, empty at the end.
local jobs, position = jobs_behind(id, ARGV[3], ARGV[4])
local started, idle = {}, {}
for _, job in ipairs(jobs) do
  local status, epoch = get(job, 'status', 'epoch')
  if not is_under_way(status) then
    set(job, 'condemned', 1)
    table.insert(tonumber(epoch or 1) > 0 and started or idle, job)
  end
end
return {{started, idle}, position}
