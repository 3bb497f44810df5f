-- A piece of the output of an attempt. What goes beyond the limit is left out, with a last line that says so. A piece
-- that has a number, from 1 on, may be repeated if its answer got lost: it is taken once.
-- Returns 1, or 0 if the log is full, or -1 if the attempt has lost the job.
local epoch, piece, text, limit, notice = ARGV[3], tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6]), ARGV[7]
local status, latest, written, logged, version = get(id, 'status', 'epoch', 'log_bytes', 'logged', 'version')
if not status or latest ~= epoch then
  return -1
end
written = tonumber(written or 0)
if written >= limit then
  return 0
end
if piece then
  if piece <= tonumber(logged or 0) then
    return 1
  end
  set(id, 'logged', piece)
end
local full = written + #text > limit
local room = limit - written
-- What is stored has to be UTF-8 still: a character of several bytes is left out whole (0x80 to 0xBF continue one).
while full and room > 0 and text:byte(room + 1) >= 0x80 and text:byte(room + 1) < 0xC0 do
  room = room - 1
end
set(id, 'log_bytes', full and limit or written + #text)
tell(id, 'log', full and text:sub(1, room) .. notice or text)
announce(id, version)
return full and 0 or 1
