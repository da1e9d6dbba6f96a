-- Hand unfinished jobs back to their queues: a retry, a snooze, a release. A stale token is refused.
-- ARGV: events kept, then per job: id, token, queue, when it is due again (ms from now, or '@' and the time at which it
--   was due: it keeps its place), priority, change of the attempt count (0 or -1), phase (retrying | scheduled | queued),
--   history entry or '', event kind or '', rest of the event
-- Returns one number per job: 1 handed back, 0 refused.
local now, events, reply, due_by_queue = clock(), {}, {}, {}

local function hand_back(i, id, queue)
  local priority, was_due = tonumber(ARGV[i + 4]), string.match(ARGV[i + 3], '^@(-?%d+)$')
  local due = was_due and tonumber(was_due) or now + tonumber(ARGV[i + 3])
  local delay = math.max(0, due - now)
  local fn = function_of(redis.call('GET', PAYLOAD .. id))
  redis.call('DEL', LEASE .. id)
  redis.call('ZADD', queue, 'XX', place(due, delay == 0 and priority or 0, true), id)
  if delay > 0 and priority > 0 then redis.call('ZADD', RISING .. queue, due, priority .. id) end
  keep_count(id, tonumber(string.match(ARGV[i + 1], '|(%d+)|%d+$')) + tonumber(ARGV[i + 5]))
  redis.call('HSET', NOTES .. id, 'phase', ARGV[i + 6], 'token', ARGV[i + 1])
  if ARGV[i + 6] == 'queued' then redis.call('HINCRBY', NOTES .. id, 'released', 1) end
  keep_notes(id, delay)
  if ARGV[i + 7] ~= '' then note_history(id, ARGV[i + 7]) end
  if ARGV[i + 8] ~= '' then events[#events + 1] = event(ARGV[i + 8], now, id, fn, queue, ARGV[i + 9]) end
  due_by_queue[queue] = math.min(due_by_queue[queue] or due, due)
end

for i = 2, #ARGV, 10 do
  local id, token, queue = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if owns(id, token, queue) then
    hand_back(i, id, queue)
    reply[#reply + 1] = 1
  else
    reply[#reply + 1] = redis.call('HGET', NOTES .. id, 'token') == token and 1 or 0
  end
end

for queue, due in pairs(due_by_queue) do wake(queue, due, now) end
emit(events, ARGV[1])
return reply
