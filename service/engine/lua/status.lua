-- All that is known of a job, read at one instant.
-- KEYS: paused    ARGV: job id
-- Returns {now, record, payload, lease token, attempts, notes as pairs, queue, score, jobs ahead, paused}; false for
-- what is not there.
local id = ARGV[1]
local record, payload = redis.call('GET', RESULT .. id), redis.call('GET', PAYLOAD .. id)
local notes = redis.call('HGETALL', NOTES .. id)
if record or not payload then return {clock(), record, false, false, false, notes, false, false, 0, 0} end
local queue = find_queue(id, payload)
return {
  clock(), false, payload, redis.call('GET', LEASE .. id), redis.call('GET', COUNT .. id), notes, queue,
  redis.call('ZSCORE', queue, id), redis.call('ZRANK', queue, id) or 0,
  redis.call('HEXISTS', KEYS[1], queue_label(queue)),
}
