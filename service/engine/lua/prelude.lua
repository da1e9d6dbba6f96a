-- Shared by all scripts, of which each is given what it uses: Redis's clock, places in a queue, events, ownership, records.
-- Names in capitals that nothing here defines are those of keys.py, filled in as text.
local HISTORY_MAX = 65536

-- A number as text, made once: in Lua that takes longer than most commands, and many jobs of a call share their times.
local texts = {}
local function int(number)
  local text = texts[number] or string.format('%.0f', number)
  if number == number then texts[number] = text end
  return text
end

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

-- Whether a job waits for others; its place is then beyond all times.
local function is_held(score) return score and tonumber(score) >= HELD end

-- Whether a stock worker has written ARQ's health check, with the time first: it does so once an hour, and nobody else
-- may shorten or delete it.
local function is_stock_health(said) return said and string.sub(said, 1, 11) ~= 'j_complete=' end

local function queue_label(queue) return queue == DEFAULT_QUEUE and 'default' or queue end

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

-- Ids as JSON, of so many each.
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
    for n, jobs in ipairs(as_json(ids)) do
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

-- How many attempts count. Not written of a first one while it runs: its token, or its lost lease, tells of it.
local function keep_count(id, attempts)
  if attempts > 0 then redis.call('SET', COUNT .. id, int(attempts)) else redis.call('DEL', COUNT .. id) end
end

-- Whether `token` (worker|started|attempt|lost) still owns the job. A lease that ran out while nobody else
-- started the job is still its owner's: the attempt and loss counters tell.
local function owns(id, token, queue)
  local current = redis.call('GET', LEASE .. id)
  if current == token then return true end
  local attempt, lost = string.match(token, '|(%d+)|(%d+)$')
  local counted = redis.call('GET', COUNT .. id)
  if counted and attempt == '1' and lost == '0' then attempt = nil end -- by a stock worker, which has begun it since
  if not current and is_lease_end(redis.call('ZSCORE', queue, id))
    and (counted or '1') == attempt
    and (redis.call('HGET', NOTES .. id, 'lost') or '0') == lost then return true end
  redis.call('DEL', NOTES) -- deletes nothing, but a replica, which may be behind, says READONLY and not "stale"
  return false
end

-- Add a line to the job's history, which keeps its newest part, and how many lines came before that.
local function note_history(id, entry)
  local key = NOTES .. id
  local history = (redis.call('HGET', key, 'history') or '') .. entry .. '\n'
  if #history > HISTORY_MAX then
    local cut = string.find(history, '\n', #history - HISTORY_MAX / 2, true) or 0
    local _, lines = string.gsub(string.sub(history, 1, cut), '\n', '')
    redis.call('HINCRBY', key, 'forgotten', lines)
    history = string.sub(history, cut + 1)
  end
  redis.call('HSET', key, 'history', history)
end

-- Notes of a job that a stock worker ends, knowing nothing of them, go away by themselves: 30 days after it was due.
-- The lines that were logged stay as long.
local function keep_notes(id, due_in)
  redis.call('PEXPIRE', NOTES .. id, int(2592000000 + due_in))
  redis.call('PEXPIRE', LOGS .. id, int(2592000000 + due_in))
end

-- The lease of a job ran out: note whose it was, and how often that has happened, which is the answer.
local function note_loss(id, score)
  local owner = redis.call('HGET', NOTES .. id, 'owner') or ''
  local who, started, number = string.match(owner, '^([%w_]+)|(%d+)|(%d+)|')
  local by = who and ',"worker_id":"' .. who .. '","started_at":' .. started .. ',"attempt":' .. number or ''
  note_history(id, '{"state":"lost","ended_at":' .. string.match(score, '^%d+') .. by .. '}')
  redis.call('HDEL', NOTES .. id, 'owner')
  local lost = redis.call('HINCRBY', NOTES .. id, 'lost', 1)
  keep_notes(id, 0)
  return lost
end

-- Ours name the state at their beginning, before anything that can be large.
local function state_at_head(id, head)
  local rest = string.match(head, '^{"f":"[^"\\]*",(.*)') or string.match(head, '^{"t":%w+,"f":"[^"\\]*",(.*)')
  local mark = '"id":' .. quoted(id) .. ',"state":"'
  return rest and string.sub(rest, 1, #mark) == mark and string.match(rest, '^%a+', #mark + 1)
end

-- How a job ended, by its record, and how many bytes that took; a stock worker's says less and is read as a whole.
-- '' for one that cannot be read, nil when there is none.
local function state_in_record(id)
  local record = redis.call('GETRANGE', RESULT .. id, 0, 511)
  if record == '' then return nil, 0 end
  local state = state_at_head(id, record)
  if state then return state, #record end
  if #record == 512 then record = redis.call('GET', RESULT .. id) end
  local parsed, stored = pcall(cjson.decode, record)
  if not parsed or type(stored) ~= 'table' then return '', #record end
  return stored.state or stored.s and 'succeeded' or 'failed', #record
end

-- Keep a job's record, its notes and its log for the same time, and let go of its unique key. Without a record, what is
-- known for a minute is that it ended, and by whose `token`, if by an attempt.
local function keep_record(id, record, ttl, unique, noted, token)
  if ttl == '-1' then redis.call('SET', RESULT .. id, record)
  elseif ttl ~= '0' then redis.call('SET', RESULT .. id, record, 'PX', ttl)
  else redis.call('SET', DELETED .. id, token or 1, 'PX', 60000) end -- an enqueue whose reply was lost must not make it again
  if noted then
    for _, key in ipairs({NOTES .. id, LOGS .. id}) do
      if ttl == '0' then redis.call('DEL', key)
      elseif ttl == '-1' then redis.call('PERSIST', key)
      else redis.call('PEXPIRE', key, ttl) end
    end
  end
  if unique ~= '' and redis.call('GET', UNIQUE .. unique) == id and redis.call('PTTL', UNIQUE .. unique) < 0 then
    redis.call('DEL', UNIQUE .. unique)
  end
end

-- Remove every trace of an unfinished job and keep its record.
local function close_job(id, queue, record, ttl, unique, noted)
  keep_record(id, record, ttl, unique, noted)
  redis.call('DEL', PAYLOAD .. id, LEASE .. id, COUNT .. id, WAITS .. id)
  redis.call('ZREM', queue, id)
end

-- The record of a job that ended without running: its payload, as ARQ's result. Needs a JSON payload.
local function unrun_record(id, payload, queue, now, state, reason)
  local error = cjson.encode({type = state == 'expired' and 'Expired' or 'CancelledError', message = reason})
  local head, rest = string.match(payload, '^({"f":"[^"\\]*",)(.*)}$')
  if not head then head, rest = string.match(payload, '^({"t":%w+,"f":"[^"\\]*",)(.*)}$') end
  if not head then head, rest = '{', string.sub(payload, 2, -2) end
  return head .. '"id":' .. quoted(id) .. ',"state":"' .. state .. '",' .. rest .. ',"t":0,"s":false,"r":' .. error
    .. ',"st":' .. int(now) .. ',"ft":' .. int(now) .. ',"q":' .. cjson.encode(queue) .. '}'
end

-- 0 = now: a worker whose clock is a little behind ours must not wait for what is due already.
local function wake(queue, due, now) redis.call('PUBLISH', WAKE .. ':' .. queue, int(due <= now and 0 or due)) end
