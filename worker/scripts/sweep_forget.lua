-- Removes some jobs of a sweep, from ARGV[3] on, which goes with the last of them.
local indexes = {}
local function indexes_of(cell)
  if not indexes[cell] then
    local text = redis.call('LINDEX', sweep_key(id) .. ':cells', cell)
    indexes[cell] = text and cjson.decode(text).indexes or {}
  end
  return indexes[cell]
end
for position = 3, #ARGV do
  forget(ARGV[position], indexes_of(unfolded(ARGV[position]).cell or 0))
end
