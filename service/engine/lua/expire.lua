-- End a job whose expires_in has passed before it could start. Workers do that when they claim it; this is for a job
-- that nobody claims, by whoever looks at it.
-- ARGV: events kept, id, payload as it was read, ttl ms of the record
-- Returns 1 when it has expired, 0 when it runs or is no longer as it was read.
local id, now = ARGV[2], clock()
if redis.call('GET', PAYLOAD .. id) ~= ARGV[3] or redis.call('EXISTS', LEASE .. id) == 1 then return 0 end
local queue = find_queue(id, ARGV[3])
if is_lease_end(redis.call('ZSCORE', queue, id)) then return 0 end -- it did start: a worker says that it was lost
local reason = 'its expires_in passed before a worker could start it'
local record = unrun_record(id, ARGV[3], queue, now, 'expired', reason)
close_job(id, queue, record, ARGV[4], unique_of(ARGV[3]), true)
redis.call('ZREM', ABORT, id)
local events = {event('job.expired', now, id, function_of(ARGV[3]), queue)}
tell_followers({id}, {'expired'}, events)
emit(events, ARGV[1])
return 1
