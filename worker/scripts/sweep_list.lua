-- A page of the sweeps, newest first. ARGV[2]: how many; ARGV[3]: the id behind which to begin, or nothing.
local limit, position = ARGV[2], ARGV[3]
local highest = position == '' and '+' or '(' .. position
return shown_sweeps(redis.call('ZREVRANGEBYLEX', key('sweeps'), highest, '-', 'LIMIT', 0, limit))
