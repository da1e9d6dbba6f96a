-- How queues stand.
-- KEYS: paused, then the queues
-- Returns {now, then per queue: {due, running, not yet due, due time of the oldest due job or -1, pause note}}.
local MOST_LOOKED_AT, STEP = 5000, 100
local now = clock()
local lease = tonumber(redis.call('GET', LONGEST_LEASE) or 16000)

-- Ends of leases stand among the jobs that are due soon. When there are more of both than may be looked at, parts from
-- everywhere stand for the whole.
local function count_running(queue, due)
  local ahead = redis.call('ZCOUNT', queue, '(' .. int(now) .. '.9', int(now + lease))
  local parts = math.min(math.ceil(ahead / STEP), math.ceil(MOST_LOOKED_AT / STEP / (#KEYS - 1)))
  local looked_at, running = 0, 0
  for part = 0, parts - 1 do
    local first, after = math.floor(part * ahead / parts), math.floor((part + 1) * ahead / parts)
    local some = redis.call('ZRANGE', queue, due + first, due + math.min(first + STEP, after) - 1, 'WITHSCORES')
    for i = 2, #some, 2 do
      if is_lease_end(some[i]) then running = running + 1 end
    end
    looked_at = looked_at + #some / 2
  end
  return looked_at < ahead and math.floor(running * ahead / looked_at + 0.5) or running
end

local function oldest_due(queue)
  local oldest = -1
  for priority = 0, 9 do
    local lead = priority * PRIORITY_STEP
    local first = redis.call('ZRANGEBYSCORE', queue, now - lead - PRIORITY_STEP, now - lead, 'WITHSCORES', 'LIMIT', 0, 1)
    local since = first[2] and tonumber(first[2]) + lead
    if since and (oldest < 0 or since < oldest) then oldest = since end
  end
  return math.floor(oldest)
end

local reply = {now}
for i = 2, #KEYS do
  local queue = KEYS[i]
  local due = redis.call('ZCOUNT', queue, '-inf', int(now) .. '.9')
  local running = count_running(queue, due)
  local waiting = redis.call('ZCARD', queue) - due - running
  reply[i] = {due, running, waiting, oldest_due(queue), redis.call('HGET', KEYS[1], queue_label(queue))}
end
return reply
