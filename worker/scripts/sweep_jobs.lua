-- The ids of some jobs of a sweep, behind the one in ARGV[3], and the position behind which to go on, empty at the end.
return {jobs_behind(id, ARGV[3], ARGV[4])}
