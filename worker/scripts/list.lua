-- A page of the jobs that stand in all of some indexes, newest first. ARGV[2]: how many; ARGV[3]: the id behind which
-- to begin, or nothing; the indexes stand from ARGV[4] on. Returns the ids, the id behind which to go on, or nothing
-- where there are no more, and the jobs as they are shown. It may go on before the page is full: looking through
-- everything at once would keep others waiting.
local limit, position = tonumber(ARGV[2]), ARGV[3]
local SHORTEST, LONGEST, MOST = 64, 2048, 16384

local indexes = {}
for argument = 4, #ARGV do
  local index = key(ARGV[argument])
  table.insert(indexes, {name = index, size = redis.call('ZCARD', index)})
end
table.sort(indexes, function(one, other) return one.size < other.size end)

-- Those of some ids that stand in the other indexes, too.
local function common(ids)
  for other = 2, #indexes do
    local scores, left = #ids > 0 and redis.call('ZMSCORE', indexes[other].name, unpack(ids)), {}
    for place, job in ipairs(ids) do
      if scores[place] then
        table.insert(left, job)
      end
    end
    ids = left
  end
  return ids
end

local found, seen, stride = {}, 0, math.max(SHORTEST, limit)
repeat
  local highest = position == '' and '+' or '(' .. position
  local ids = redis.call('ZREVRANGEBYLEX', indexes[1].name, highest, '-', 'LIMIT', 0, stride)
  for _, job in ipairs(common(ids)) do
    if #found < limit then
      table.insert(found, job)
    end
  end
  position, seen = #ids == stride and ids[#ids] or '', seen + #ids
  stride = math.min(2 * stride, LONGEST)
until #found == limit or position == '' or seen >= MOST
return {found, #found == limit and found[limit] or position, shown(found)}
