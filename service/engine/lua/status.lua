-- All that is known of each of some jobs, read at one instant.
-- KEYS: paused    ARGV: job ids
-- Returns for each {now, record, payload, lease token, attempts, notes as pairs, queue, score, jobs ahead, paused, unserved,
-- deleted, a job that it waits for, how many these are}; false for what is not there.
local now = clock()

-- 0 = somebody may run it; 1 = the workers of its queue do not know its function; 2 = nobody serves its queue;
-- 3 = its workers take no jobs on now.
-- Stock workers do not say what they serve, only that they live.
local function unserved(queue, payload)
  local place = queue_label(queue) .. '|'
  if tonumber(redis.call('ZSCORE', SERVING, place .. function_of(payload)) or 0) > now then return 0 end
  if tonumber(redis.call('ZSCORE', SERVING, place) or 0) > now then return 1 end
  if tonumber(redis.call('ZSCORE', SERVING, place .. '!') or 0) > now then return 3 end
  return redis.call('EXISTS', queue .. HEALTH) == 1 and 0 or 2
end

-- The same one each time, the first where they are few; a large hash may have empty places.
local function one_waited_for(id)
  local cursor = '0'
  for _ = 1, 50 do
    local seen = redis.call('HSCAN', WAITS .. id, cursor, 'COUNT', 10)
    for i = 1, #seen[2], 2 do
      if seen[2][i] ~= '*' then return seen[2][i] end
    end
    cursor = seen[1]
    if cursor == '0' then return false end
  end
  return false
end

local function look(id)
  local record, payload = redis.call('GET', RESULT .. id), redis.call('GET', PAYLOAD .. id)
  local notes = redis.call('HGETALL', NOTES .. id)
  if record or not payload then
    local deleted = not record and redis.call('EXISTS', DELETED .. id) or 0
    return {now, record, false, false, false, notes, false, false, 0, 0, 0, deleted, false, 0}
  end
  local queue = find_queue(id, payload)
  local score = redis.call('ZSCORE', queue, id)
  local held = is_held(score)
  return {
    now, false, payload, redis.call('GET', LEASE .. id), redis.call('GET', COUNT .. id), notes, queue,
    score, redis.call('ZRANK', queue, id) or 0,
    redis.call('HEXISTS', KEYS[1], queue_label(queue)), unserved(queue, payload), 0,
    held and one_waited_for(id), held and redis.call('HLEN', WAITS .. id) - 1 or 0,
  }
end

local reply = {}
for n = 1, #ARGV do reply[n] = look(ARGV[n]) end
return reply
