-- Run a finished job again under its own id, with a fresh count of attempts and its history kept.
-- ARGV: events kept, id, queue, payload, priority, record as it was read
-- Returns requeued | changed | missing.
local id, queue, now = ARGV[2], ARGV[3], clock()
local record = redis.call('GET', RESULT .. id)
if not record then return redis.call('EXISTS', PAYLOAD .. id) == 1 and 'changed' or 'missing' end
if record ~= ARGV[6] then return 'changed' end
redis.call('SET', PAYLOAD .. id, ARGV[4])
redis.call('DEL', RESULT .. id, COUNT .. id)
keep_notes(id, 0)
redis.call('HDEL', NOTES .. id, 'lost', 'phase', 'progress')
redis.call('ZADD', queue, place(now, tonumber(ARGV[5]), true), id)
redis.call('ZADD', QUEUES, now, queue)
wake(queue, now, now)
emit({event('job.retrying', now, id, function_of(ARGV[4]), queue, ',"requested":true')}, ARGV[1])
return 'requeued'
