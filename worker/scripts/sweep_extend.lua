-- Gives every cell of a sweep jobs with further seeds, and makes those again that were deleted: if its seeds are still
-- those that the caller knows, ARGV[4], and of its jobs as many were ever made, ARGV[5]. ARGV[6]: all seeds from then
-- on; ARGV[7]: the new ones; ARGV[8]: those of deleted jobs by the number of their cell; all as JSON. Returns whether
-- that is allowed, and the calls for workers.
local random, known, known_made, seeds = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local further, deleted = cjson.decode(ARGV[7]), cjson.decode(ARGV[8])
local name = sweep_key(id)
local found, made, condemned = unpack(redis.call('HMGET', name, 'seeds', 'made', 'condemned'))
if found ~= known or (made or '') ~= known_made or condemned then
  return {0, {}}
end
redis.call('HSET', name, 'seeds', seeds)
local cells = {}
for number, text in ipairs(redis.call('LRANGE', name .. ':cells', 0, -1)) do
  local of_cell = deleted[tostring(number - 1)] or {}
  for _, seed in ipairs(further) do
    table.insert(of_cell, seed)
  end
  table.insert(cells, {number = number - 1, text = text, seeds = of_cell})
end
make_jobs(id, cells, further, random)
begin_anew(id)
return {1, calls}
