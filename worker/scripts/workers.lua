-- The living workers: description and milliseconds since the last sign of life, one after the other.
local living = {}
for _, name in ipairs(redis.call('ZRANGE', key('workers'), 0, -1)) do
  local description = redis.call('GET', key('worker:' .. name))
  if description then
    table.insert(living, description)
    table.insert(living, now - redis.call('ZSCORE', key('workers'), name))
  end
end
return living
