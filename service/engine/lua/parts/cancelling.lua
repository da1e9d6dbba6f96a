-- Shared by the scripts that cancel a job: at once when it waits; when it runs, its worker is asked.
-- Returns cancelled | asked | finished | missing.
local function cancel_job(id, reason, ttl, now, events)
  local payload = redis.call('GET', PAYLOAD .. id)
  if not payload then return redis.call('EXISTS', RESULT .. id) == 1 and 'finished' or 'missing' end
  if string.sub(payload, 1, 1) == '{' and redis.call('EXISTS', LEASE .. id) == 0 then
    local queue = find_queue(id, payload)
    local record = unrun_record(id, payload, queue, now, 'cancelled', reason)
    close_job(id, queue, record, ttl, unique_of(payload), true)
    redis.call('ZREM', ABORT, id)
    events[#events + 1] = event('job.cancelled', now, id, function_of(payload), queue)
    tell_followers({id}, {'cancelled'}, events)
    return 'cancelled'
  end
  redis.call('ZADD', ABORT, now, id)
  redis.call('PUBLISH', CONTROL, 'cancel ' .. id)
  return 'asked'
end
