-- Pause a queue. Said again, the newer reason counts, and the time of the first.
-- ARGV: events kept, queue, by whom and why, both as JSON
-- Returns 1 when it was not paused before, else 0.
local queue, now = ARGV[2], clock()
local label, why = queue_label(queue), '"by":' .. ARGV[3] .. ',"reason":' .. ARGV[4]
local before = redis.call('HGET', PAUSED, label)
local since = before and string.match(before, '"since":(%d+)') or int(now)
redis.call('HSET', PAUSED, label, '{' .. why .. ',"since":' .. since .. '}')
redis.call('ZADD', QUEUES, 'NX', now, queue)
if before then return 0 end
emit({queue_event('queue.paused', now, queue, ',' .. why)}, ARGV[1])
return 1
