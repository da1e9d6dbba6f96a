-- Give a waiting job another due time, another priority, or both.
-- ARGV: events kept, id, payload and score as they were read, payload to be, priority before, priority to be, due ms
--   or '' to leave it
-- Returns changed | stale (it is no longer as it was read, or runs).
local id, now, before, priority, due = ARGV[2], clock(), ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
if redis.call('GET', PAYLOAD .. id) ~= ARGV[3] or redis.call('EXISTS', LEASE .. id) == 1 then return 'stale' end
local queue, fn = find_queue(id, ARGV[3]), function_of(ARGV[3])
local score = redis.call('ZSCORE', queue, id)
if score ~= ARGV[4] then return 'stale' end

-- A job that waits for others keeps its place, and is told how to go on then.
local function change_held()
  local when, rest = string.match(redis.call('HGET', WAITS .. id, '*') or '', '^%d|([^|]*)(|.*)$')
  if not when then return 'stale' end
  redis.call('HSET', WAITS .. id, '*', int(priority) .. '|' .. (due and '@' .. int(due) or when) .. rest)
  redis.call('SET', PAYLOAD .. id, ARGV[5])
  local delay = string.format('%.3f', math.max(0, (due or now) - now) / 1000)
  emit({event('job.changed', now, id, fn, queue, ',"priority":' .. priority .. ',"delay_s":' .. delay)}, ARGV[1])
  return 'changed'
end
if is_held(score) then return change_held() end

local events, noted, lost = {}, is_noted(score), is_lease_end(score)
if lost then -- its new place says nothing of that to the next claim, so it is said here
  events[1] = event('job.lost', now, id, fn, queue, ',"lost":' .. note_loss(id, score))
  keep_count(id, tonumber(redis.call('GET', COUNT .. id) or 1) - 1)
end
if lost or redis.call('HGET', NOTES .. id, 'phase') ~= 'retrying' then redis.call('HDEL', NOTES .. id, 'phase') end

if not due then
  due = math.floor(tonumber(score))
  if due < now - PRIORITY_STEP / 2 then due = due + tonumber(before) * PRIORITY_STEP end
end
redis.call('SET', PAYLOAD .. id, ARGV[5])
redis.call('ZADD', queue, 'XX', place(due, due <= now and priority or 0, noted), id)
redis.call('ZREM', RISING .. queue, before .. id)
if due > now and priority > 0 then redis.call('ZADD', RISING .. queue, due, priority .. id) end
if noted then keep_notes(id, math.max(0, due - now)) end

wake(queue, due, now)
local delay = string.format('%.3f', math.max(0, due - now) / 1000)
events[#events + 1] = event('job.changed', now, id, fn, queue, ',"priority":' .. priority .. ',"delay_s":' .. delay)
emit(events, ARGV[1])
return 'changed'
