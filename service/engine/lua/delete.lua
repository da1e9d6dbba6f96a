-- Remove every trace of a job that does not run, and remember for a while that there was one.
-- ARGV: events kept, id, function and queue as they were read, ms to remember it
-- Returns deleted | running | missing.
local id, queue, now = ARGV[2], ARGV[4], clock()
local payload = redis.call('GET', PAYLOAD .. id)
if not payload and redis.call('EXISTS', RESULT .. id) == 0 then return 'missing' end
if payload and redis.call('EXISTS', LEASE .. id) == 1 then return 'running' end

-- A job that never ran has used up neither its place nor its unique key, not even one held for a time.
local function withdraw()
  queue = find_queue(id, payload)
  local parsed, job = pcall(cjson.decode, payload)
  local options = parsed and type(job) == 'table' and type(job.x) == 'table' and job.x or {}
  local unique = UNIQUE .. unique_of(payload)
  if redis.call('GET', unique) == id then redis.call('DEL', unique) end
  if type(options.priority) == 'number' then redis.call('ZREM', RISING .. queue, options.priority .. id) end
  redis.call('ZREM', queue, id)
  redis.call('ZREM', ABORT, id)
  return event('job.cancelled', now, id, ARGV[3], queue, ',"reason":"deleted"')
end

local events = {payload and withdraw() or nil}
redis.call('DEL', PAYLOAD .. id, LEASE .. id, COUNT .. id, RESULT .. id, NOTES .. id, LOGS .. id, WAITS .. id)
redis.call('SET', DELETED .. id, 1, 'PX', ARGV[5])
events[#events + 1] = event('job.deleted', now, id, ARGV[3], queue)
if payload then tell_followers({id}, {'deleted'}, events) end
emit(events, ARGV[1])
return 'deleted'
