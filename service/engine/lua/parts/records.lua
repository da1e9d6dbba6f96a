-- The record of a job that has ended.
local ENDINGS = {failed = ' failed', cancelled = ' was cancelled', expired = ' expired', deleted = ' was deleted'}

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

-- How a job has ended; '' when nothing tells. Nil while it has not.
local function ending_of(id)
  if redis.call('EXISTS', PAYLOAD .. id) == 1 then return nil end
  return state_in_record(id) or (redis.call('EXISTS', DELETED .. id) == 1 and 'deleted' or '')
end

local function why_not(earlier, state) return earlier .. (ENDINGS[state] or ' is gone: nothing says how it ended') end
