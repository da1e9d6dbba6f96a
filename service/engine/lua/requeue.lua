-- Run a finished job again under its own id, with a fresh count of attempts and its history kept.
-- ARGV: events kept, id, queue, payload, priority, record as it was read, its unique key or '', how many unfinished jobs
--   its queue may hold or '', what its history gets: the attempt that ended it or '', and this retry
-- Returns {requeued | changed | missing | full} or {conflict, the job that holds its unique key}.
local id, queue, now = ARGV[2], ARGV[3], clock()
local record = redis.call('GET', RESULT .. id)
if not record then return {redis.call('EXISTS', PAYLOAD .. id) == 1 and 'changed' or 'missing'} end
if record ~= ARGV[6] then return {'changed'} end

-- A key that is held for a time is this job's for that time, too, when it is the one that holds it.
local unique = ARGV[7] ~= '' and UNIQUE .. ARGV[7]
local holder = unique and redis.call('GET', unique)
if holder and holder ~= id and (redis.call('EXISTS', PAYLOAD .. holder) == 1 or redis.call('PTTL', unique) > 0) then
  return {'conflict', holder}
end
if ARGV[8] ~= '' and redis.call('ZCARD', queue) >= tonumber(ARGV[8]) then return {'full'} end

if unique and holder ~= id then redis.call('SET', unique, id) end
redis.call('SET', PAYLOAD .. id, ARGV[4])
redis.call('DEL', RESULT .. id, COUNT .. id)
redis.call('HDEL', NOTES .. id, 'lost', 'phase', 'progress')
if ARGV[9] ~= '' then note_history(id, ARGV[9]) end
note_history(id, ARGV[10])
keep_notes(id, 0)
redis.call('ZADD', queue, place(now, tonumber(ARGV[5]), true), id)
redis.call('ZADD', QUEUES, now, queue)
wake(queue, now, now)
emit({event('job.retrying', now, id, function_of(ARGV[4]), queue, ',"requested":true')}, ARGV[1])
return {'requeued'}
