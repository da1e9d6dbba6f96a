-- The schedules whose next tick is due, and when the first of the others is.
-- KEYS: due    ARGV: how many, how many of the first to pass over
-- Returns {now, when the next one is due or '', then per schedule: id, its hash as pairs}.
local now = clock()
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', ARGV[2], ARGV[1])
local later = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. int(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local reply = {now, later[2] or ''}
for _, id in ipairs(ids) do
  local stored = redis.call('HGETALL', SCHEDULE .. id)
  if #stored == 0 then
    redis.call('ZREM', KEYS[1], id)
  else
    reply[#reply + 1] = id
    reply[#reply + 1] = stored
  end
end
return reply
