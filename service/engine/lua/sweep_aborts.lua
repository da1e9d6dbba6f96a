-- Tidy the abort requests of stock clients: move a waiting job to the head, so that a worker ends it now; forget
-- what has no job any more and what nobody took for an hour.
-- ARGV: ids
local now = clock()
for _, id in ipairs(ARGV) do
  local payload = redis.call('GET', PAYLOAD .. id)
  if not payload then
    redis.call('ZREM', ABORT, id)
  elseif abort_asked(id, payload) and redis.call('EXISTS', LEASE .. id) == 0 then
    redis.call('ZADD', find_queue(id, payload), 'XX', 1, id)
  end
end
redis.call('ZREMRANGEBYSCORE', ABORT, '-inf', now - 3600000)
return 1
