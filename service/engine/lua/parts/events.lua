-- Events, which each change of state appends to one stream.
local quoted = cjson.encode -- stock clients choose ids freely

-- What happened to several jobs alike is said once: an event without its job and without its end, and in `jobs` their
-- ids. `emit` puts these before the others.
local alike = {}
local function all_of(head)
  if not alike[head] then alike[head], alike[#alike + 1] = {}, head end
  return alike[head]
end
local function happened(id, head)
  local ids = all_of(head)
  ids[#ids + 1] = id
end

-- How many jobs an entry of the stream tells of at most, so that a batch costs few commands and an entry stays small.
local TOLD_AT_ONCE = 16

-- Ids as lists in JSON, of so many each.
local function as_json(ids)
  local parts = {}
  for first = 1, #ids, TOLD_AT_ONCE do
    parts[#parts + 1] = cjson.encode({unpack(ids, first, math.min(first + TOLD_AT_ONCE - 1, #ids))})
  end
  return parts
end

-- Append events to the stream. An entry is put together at once: Lua reads through each text that is made on the way.
local function emit(events, kept)
  local entry, size = {}, 0
  local function append()
    if size == 0 then return end
    entry[#entry + 1] = ']'
    redis.call('XADD', EVENTS, 'MAXLEN', '~', kept, '*', 'e', table.concat(entry))
    entry, size = {}, 0
  end
  local function add(jobs, ...)
    if size + jobs > TOLD_AT_ONCE then append() end
    entry[#entry + 1] = size == 0 and '[' or ','
    for _, piece in ipairs({...}) do entry[#entry + 1] = piece end
    size = size + jobs
  end
  for _, head in ipairs(alike) do
    local ids = alike[head]
    for n, jobs in ipairs(ids.lists or as_json(ids)) do
      add(math.min(TOLD_AT_ONCE, #ids - TOLD_AT_ONCE * (n - 1)), head, ',"jobs":', jobs, '}')
    end
  end
  for _, text in ipairs(events) do add(1, text) end
  append()
  alike = {}
end

local function event(kind, now, id, fn, queue, rest)
  return '{"type":"' .. kind .. '","at":' .. int(now) .. ',"job_id":' .. quoted(id) .. ',"function":"' .. fn
    .. '","queue":"' .. queue_label(queue) .. '"' .. (rest or '') .. '}'
end

local function queue_event(kind, now, queue, rest)
  return '{"type":"' .. kind .. '","at":' .. int(now) .. ',"queue":"' .. queue_label(queue) .. '"' .. (rest or '') .. '}'
end

local function worker_event(kind, now, id)
  return '{"type":"' .. kind .. '","at":' .. int(now) .. ',"worker_id":' .. quoted(id) .. '}'
end
