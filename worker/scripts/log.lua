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
set(id, 'log_bytes', full and limit or written + #text)
tell(id, 'log', full and string.sub(text, 1, limit - written) .. notice or text)
announce(id, version)
return full and 0 or 1
