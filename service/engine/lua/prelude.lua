-- Shared by every script: key prefixes (filled in by scripts.py from keys.py), Redis's clock, events, ownership.
local PAYLOAD, LEASE, COUNT, RESULT, NOTES = '{PAYLOAD}', '{LEASE}', '{COUNT}', '{RESULT}', '{NOTES}'
local UNIQUE, ABORT, EVENTS, QUEUES, WAKE = '{UNIQUE}', '{ABORT}', '{EVENTS}', '{QUEUES}', '{WAKE}'
local RISING, CONTROL = '{RISING}', '{CONTROL}'
local DEFAULT_QUEUE, PRIORITY_STEP, HISTORY_MAX = '{DEFAULT_QUEUE}', {PRIORITY_STEP}, 65536

local function int(number) return string.format('%.0f', number) end

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A job's place in its queue: due time, moved ahead by its priority. Its fraction tells what costs a look elsewhere:
-- .25 = the job has notes, .5 = this is the end of a lease. ARQ reads scores as whole numbers.
local function place(due, priority, noted) return int(due - priority * PRIORITY_STEP) .. (noted and '.25' or '') end
local function lease_end(now, lease) return int(now + lease) .. '.5' end
local function is_lease_end(score) return score and string.find(score, '.5', 1, true) ~= nil end
local function is_noted(score) return score and string.find(score, '.', 1, true) ~= nil end

local function queue_label(queue) return queue == DEFAULT_QUEUE and 'default' or queue end

-- Append events to the stream, up to 16 to an entry, so that a batch costs few commands and an entry stays small.
local function emit(events, kept)
  for first = 1, #events, 16 do
    local entry = table.concat(events, ',', first, math.min(first + 15, #events))
    redis.call('XADD', EVENTS, 'MAXLEN', '~', kept, '*', 'e', '[' .. entry .. ']')
  end
end

-- Stock clients choose ids freely; ours need no escape.
local function quoted(id) return string.find(id, '[^%w_.:-]') and cjson.encode(id) or '"' .. id .. '"' end

local function event(kind, now, id, fn, queue, rest)
  return '{"type":"' .. kind .. '","at":' .. int(now) .. ',"job_id":' .. quoted(id) .. ',"function":"' .. fn
    .. '","queue":"' .. queue_label(queue) .. '"' .. (rest or '') .. '}'
end

-- Our payloads begin with the function's name and the queue; those of a stock client with its try, or are pickles.
local function function_of(payload)
  if not payload then return '' end
  return string.match(payload, '^{"f":"([^"\\]*)"') or string.match(payload, '^{"t":%w+,"f":"([^"\\]*)"') or ''
end

local function find_queue(id, payload)
  local queue = payload and string.match(payload, '^{"f":"[^"\\]*","x":{"queue":"([^"\\]+)"')
  if queue and redis.call('ZSCORE', queue, id) then return queue end
  if redis.call('ZSCORE', DEFAULT_QUEUE, id) then return DEFAULT_QUEUE end
  for _, known in ipairs(redis.call('ZRANGE', QUEUES, 0, 255)) do
    if redis.call('ZSCORE', known, id) then return known end
  end
  return queue or DEFAULT_QUEUE
end

-- Whether a client asked to abort this job. What is older than the job was meant for an earlier one of its id, and is
-- forgotten; only JSON payloads, which end with their enqueue time, can tell.
local function abort_asked(id, payload)
  local asked = redis.call('ZSCORE', ABORT, id)
  local enqueued = asked and payload and string.match(payload, '"et": ?(%d+)}$')
  if not enqueued or tonumber(asked) >= tonumber(enqueued) then return asked end
  redis.call('ZREM', ABORT, id)
  return false
end

-- Whether `token` (worker|started|attempt|lost) still owns the job. A lease that ran out while nobody else
-- started the job is still its owner's: the attempt and loss counters tell.
local function owns(id, token, queue)
  local current = redis.call('GET', LEASE .. id)
  if current == token then return true end
  local attempt, lost = string.match(token, '|(%d+)|(%d+)$')
  if not current and is_lease_end(redis.call('ZSCORE', queue, id))
    and redis.call('GET', COUNT .. id) == attempt
    and (redis.call('HGET', NOTES .. id, 'lost') or '0') == lost then return true end
  redis.call('DEL', NOTES) -- deletes nothing, but a replica, which may be behind, says READONLY and not "stale"
  return false
end

-- Add a line to the job's history, which keeps its newest part.
local function note_history(id, entry)
  local key = NOTES .. id
  local history = (redis.call('HGET', key, 'history') or '') .. entry .. '\n'
  if #history > HISTORY_MAX then
    history = string.sub(history, (string.find(history, '\n', #history - HISTORY_MAX / 2, true) or 0) + 1)
  end
  redis.call('HSET', key, 'history', history)
end

-- Notes of a job that a stock worker ends, knowing nothing of them, go away by themselves: 30 days after it was due.
local function keep_notes(id, due_in) redis.call('PEXPIRE', NOTES .. id, int(2592000000 + due_in)) end

-- Keep a job's record and let go of its notes and unique key.
local function keep_record(id, record, ttl, unique, noted)
  if ttl == '-1' then redis.call('SET', RESULT .. id, record)
  elseif ttl ~= '0' then redis.call('SET', RESULT .. id, record, 'PX', ttl) end
  if noted then
    if ttl == '0' then redis.call('DEL', NOTES .. id)
    elseif ttl == '-1' then redis.call('PERSIST', NOTES .. id)
    else redis.call('PEXPIRE', NOTES .. id, ttl) end
  end
  if unique ~= '' and redis.call('GET', UNIQUE .. unique) == id and redis.call('PTTL', UNIQUE .. unique) < 0 then
    redis.call('DEL', UNIQUE .. unique)
  end
end

-- Remove every trace of an unfinished job and keep its record.
local function close_job(id, queue, record, ttl, unique, noted)
  keep_record(id, record, ttl, unique, noted)
  redis.call('DEL', PAYLOAD .. id, LEASE .. id, COUNT .. id)
  redis.call('ZREM', queue, id)
end

-- The record of a job that ended without running: its payload, as ARQ's result. Needs a JSON payload.
local function unrun_record(id, payload, queue, now, state, reason)
  local error = cjson.encode({type = 'CancelledError', message = reason})
  return string.sub(payload, 1, -2) .. ',"t":0,"s":false,"r":' .. error .. ',"st":' .. int(now) .. ',"ft":' .. int(now)
    .. ',"q":' .. cjson.encode(queue) .. ',"id":' .. quoted(id) .. ',"state":"' .. state .. '"}'
end

-- 0 = now: a worker whose clock is a little behind ours must not wait for what is due already.
local function wake(queue, due, now) redis.call('PUBLISH', WAKE .. ':' .. queue, int(due <= now and 0 or due)) end
