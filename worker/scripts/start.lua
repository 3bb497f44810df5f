-- The training process is ready, at a step that may lie behind what an earlier attempt reported; that is taken back,
-- and a `rewind` entry says so to those who have read it. Repeated because its answer got lost, it changes nothing.
local epoch, step, progress, latest, environment = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7]
if not holds(id, epoch) then
  return 0
end
if get(id, 'status') == 'running' then
  return 1
end
local events, last, rewound = key('events:' .. id), '+', false
repeat
  local entries = redis.call('XREVRANGE', events, last, '-', 'COUNT', 100)
  for _, entry in ipairs(entries) do
    if entry[2][1] == 'metrics' then
      if tonumber(entry[2][4]) <= step then
        entries = {}
        break
      end
      redis.call('XDEL', events, entry[1])
      rewound = true
    end
    last = '(' .. entry[1]
  end
until #entries == 0
if rewound then
  tell(id, 'rewind', step)
end
redis.call('HDEL', record(id), 'claim')
set(id, 'reported', step, 'progress', progress, 'metrics', latest, 'environment', environment)
local asked, reason = get(id, 'asked', 'reason')
enter(id, 'running', asked and reason or '')
return 1
