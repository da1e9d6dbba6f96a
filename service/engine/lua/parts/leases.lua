-- Who owns a job, how many attempts count, and what is noted of those that did not end it.
local HISTORY_MAX = 65536

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
