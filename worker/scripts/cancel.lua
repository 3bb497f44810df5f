-- Cancels a job. Returns whether that is allowed, and the job as it is shown.
local cancelled, requested = ARGV[3], ARGV[4]
return {cancel(id, cancelled, requested) and 1 or 0, shown({id})}
