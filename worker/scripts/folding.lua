-- Stands before every script, behind keys.lua: how the records of jobs that have ended are made small.

-- What scripts read of jobs that have ended, or write then, beside the field that holds all the rest.
local UNFOLDED = {format = true, status = true, epoch = true, version = true, condemned = true, log_bytes = true,
  logged = true}

-- Jobs share the description of an environment, which most of them have in common; it goes with the last of them.
local function environment(digest)
  return key('environment:' .. digest)
end

local function share(text)
  local digest = redis.sha1hex(text)
  redis.call('HSET', environment(digest), 'text', text)
  redis.call('HINCRBY', environment(digest), 'jobs', 1)
  return digest
end

local function unshare(digest)
  if redis.call('HINCRBY', environment(digest), 'jobs', -1) == 0 then
    redis.call('DEL', environment(digest))
  end
end

local function is_under_way(status)
  return status == 'queued' or status == 'starting' or status == 'running' or status == 'paused'
end

-- Fields as one text, each as its name, the length of its value and that.
local function joined(fields)
  local parts = {}
  for name, text in pairs(fields) do
    table.insert(parts, name .. ' ' .. #text .. ' ' .. text)
  end
  return table.concat(parts)
end

local function parse(text)
  local fields, position = {}, 1
  repeat
    local _, last, name, length = text:find('^([%a_]+) (%d+) ', position)
    if last then
      fields[name] = text:sub(last + 1, last + length)
      position = last + length + 1
    end
  until not last
  return fields
end

-- All fields of a record by name, none if there is no such job; and what was folded.
local function unfolded(job)
  local flat, fields = redis.call('HGETALL', record(job)), {}
  for position = 1, #flat, 2 do
    fields[flat[position]] = flat[position + 1]
  end
  local folded = parse(fields.folded or '')
  for name, text in pairs(folded) do
    fields[name] = text
  end
  if folded.shares then
    fields.environment = redis.call('HGET', environment(folded.shares), 'text') or nil
  end
  fields.folded, fields.shares = nil, nil
  return fields, folded
end

local function replace(job, fields)
  local flat = {}
  for name, text in pairs(fields) do
    table.insert(flat, name)
    table.insert(flat, text)
  end
  redis.call('DEL', record(job))
  set(job, unpack(flat))
end

-- A stream has room for 4 KiB of further entries, which a copy of it has not.
local function tighten(job)
  local events = key('events:' .. job)
  redis.call('COPY', events, events .. ':copy', 'REPLACE')
  redis.call('RENAME', events .. ':copy', events)
end

-- Makes a job that has ended small. A field takes some 50 bytes beside its text, so most become one.
local function fold(job)
  local kept, folded = {}, {}
  for name, text in pairs((unfolded(job))) do
    if UNFOLDED[name] then
      kept[name] = text
    elseif name == 'environment' then
      folded.shares = share(text)
    elseif text ~= '' then
      folded[name] = text
    end
  end
  kept.format, kept.folded = FORMAT, joined(folded)
  replace(job, kept)
  tighten(job)
end

local function unfold(job)
  local fields, folded = unfolded(job)
  replace(job, fields)
  if folded.shares then
    unshare(folded.shares)
  end
end

-- What a newer version wrote may mean something else; it stays as it is.
local function is_known(job)
  return (tonumber(get(job, 'format') or 1) or FORMAT + 1) <= FORMAT
end
