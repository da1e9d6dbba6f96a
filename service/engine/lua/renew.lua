-- Prolong the leases of running attempts.
-- ARGV: lease ms, then per attempt: id, token, queue
-- Returns {now, ids whose lease now belongs to somebody else …}.
local now, lease = clock(), ARGV[1]
local lease_until, reply = lease_end(now, lease), {now}

for i = 2, #ARGV, 3 do
  local id, token, queue = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if owns(id, token, queue) then
    redis.call('SET', LEASE .. id, token, 'PX', lease)
    redis.call('ZADD', queue, 'XX', lease_until, id)
    redis.call('HSET', NOTES .. id, 'owner', token) -- so that the history can say who was lost
    keep_notes(id, 0)
  else
    reply[#reply + 1] = id
  end
end
return reply
