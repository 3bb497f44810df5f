-- Some jobs, from ARGV[2] on, as they are shown.
local jobs = {}
for position = 2, #ARGV do
  table.insert(jobs, ARGV[position])
end
return shown(jobs)
