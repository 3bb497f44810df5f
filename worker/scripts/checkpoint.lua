-- Makes a checkpoint visible and keeps the one before it. Returns those that are no longer needed; none where it is
-- the newest already, repeated because its answer got lost.
local epoch, checkpoint, kept = ARGV[3], ARGV[4], tonumber(ARGV[5])
if not holds(id, epoch) then
  return nil
end
local checkpoints = cjson.decode(get(id, 'checkpoints') or '[]')
if checkpoints[1] == checkpoint then
  return {}
end
table.insert(checkpoints, 1, checkpoint)
local dropped = {}
while #checkpoints > kept do
  table.insert(dropped, table.remove(checkpoints))
end
set(id, 'checkpoints', cjson.encode(checkpoints))
tell(id, 'checkpoint', string.format('{"step":%d}', cjson.decode(checkpoint).step))
changed(id)
return dropped
