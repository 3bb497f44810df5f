-- Removes a job that has ended. ARGV[3] and on: the indexes it stands in. Returns whether that is allowed.
local indexes = {}
for position = 3, #ARGV do
  table.insert(indexes, ARGV[position])
end
return forget(id, indexes) and 1 or 0
