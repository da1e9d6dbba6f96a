-- How a queue stands.
-- KEYS: queue, paused    ARGV: queue's name, longest lease ms
-- Returns {now, due, running (counted up to 20,000), not yet due, due time of the oldest due job or -1, pause note}.
local now, queue = clock(), KEYS[1]
local due = redis.call('ZCOUNT', queue, '-inf', int(now) .. '.9')
local running, offset = 0, 0
while offset < 20000 do
  local ahead = redis.call('ZRANGEBYSCORE', queue, '(' .. int(now) .. '.9', now + tonumber(ARGV[2]), 'WITHSCORES', 'LIMIT', offset, 1000)
  for i = 2, #ahead, 2 do
    if is_lease_end(ahead[i]) then running = running + 1 end
  end
  if #ahead < 2000 then break end
  offset = offset + 1000
end
local oldest = -1
for priority = 0, 9 do
  local lead = priority * PRIORITY_STEP
  local first = redis.call('ZRANGEBYSCORE', queue, now - lead - PRIORITY_STEP, now - lead, 'WITHSCORES', 'LIMIT', 0, 1)
  local since = first[2] and tonumber(first[2]) + lead
  if since and (oldest < 0 or since < oldest) then oldest = since end
end
local waiting = redis.call('ZCARD', queue) - due - running
return {now, due, running, waiting, math.floor(oldest), redis.call('HGET', KEYS[2], ARGV[1])}
