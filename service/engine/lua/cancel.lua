-- Cancel a job: at once when it waits; when it runs, ask its worker.
-- ARGV: events kept, id, reason, ttl ms of the record
-- Returns cancelled | asked | finished | missing.
local id, now = ARGV[2], clock()
local payload = redis.call('GET', PAYLOAD .. id)
if not payload then return redis.call('EXISTS', RESULT .. id) == 1 and 'finished' or 'missing' end
local queue = find_queue(id, payload)
local readable = string.sub(payload, 1, 1) == '{'
if readable and redis.call('EXISTS', LEASE .. id) == 0 then
  local parsed, job = pcall(cjson.decode, payload)
  local unique = parsed and type(job.x) == 'table' and job.x.unique_key or ''
  close_job(id, queue, unrun_record(id, payload, queue, now, 'cancelled', ARGV[3]), ARGV[4], unique, true)
  redis.call('ZREM', ABORT, id)
  local events = {event('job.cancelled', now, id, function_of(payload), queue)}
  tell_followers({id}, {'cancelled'}, events)
  emit(events, ARGV[1])
  return 'cancelled'
end
redis.call('ZADD', ABORT, now, id)
redis.call('PUBLISH', CONTROL, 'cancel ' .. id)
return 'asked'
