-- Output of an attempt. What goes beyond the limit is left out, with a last line that says so.
-- Returns 1, or 0 if the log is full, or -1 if the attempt has lost the job.
local epoch, text, limit, notice = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local status, latest, written, version = get(id, 'status', 'epoch', 'log_bytes', 'version')
if not status or latest ~= epoch then
  return -1
end
written = tonumber(written or 0)
if written >= limit then
  return 0
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
