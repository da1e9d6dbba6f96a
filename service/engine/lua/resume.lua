-- Resume a queue, and wake its workers.
-- ARGV: events kept, queue
-- Returns 1 when it was paused, else 0.
local queue, now = ARGV[2], clock()
if redis.call('HDEL', PAUSED, queue_label(queue)) == 0 then return 0 end
wake(queue, now, now)
emit({queue_event('queue.resumed', now, queue)}, ARGV[1])
return 1
