-- Note how far a running job is, for its owner only.
-- ARGV: events kept, id, token, queue, progress as JSON
-- Returns 1, or 0 when the token is stale.
local id, queue = ARGV[2], ARGV[4]
if not owns(id, ARGV[3], queue) then return 0 end
redis.call('HSET', NOTES .. id, 'progress', ARGV[5])
keep_notes(id, 0)
local fn = function_of(redis.call('GET', PAYLOAD .. id))
emit({event('job.progress', clock(), id, fn, queue, ',"progress":' .. ARGV[5])}, ARGV[1])
return 1
