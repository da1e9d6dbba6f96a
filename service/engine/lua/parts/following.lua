-- Shared by the scripts that end jobs: what was to run after such a job is released or cancelled, and so is what was to
-- run after that one, up to MOST_TOLD in one call. A worker goes on with the rest.
--   FOLLOWED: ids of the jobs that others wait for; FOLLOWERS..id: who they are, in order
--   WAITS..id: a field for each job that this one waits for, and '*': priority|when|on_failure|ttl of its record
--   ENDED: jobs that ended and have followers left to tell, with their states
local MOST_TOLD, KEPT_FOR_FOLLOWERS = 1000, 1209600000

local function release(id, priority, when, now, due_by_queue)
  redis.call('DEL', WAITS .. id)
  local payload = redis.call('GETRANGE', PAYLOAD .. id, 0, 511)
  local queue, due = find_queue(id, payload), math.max(now, due_at(when, now))
  redis.call('ZADD', queue, 'XX', place(due, due <= now and priority or 0), id)
  if due > now and priority > 0 then redis.call('ZADD', RISING .. queue, due, priority .. id) end
  due_by_queue[queue] = math.min(due_by_queue[queue] or due, due)
end

-- Returns whether there was one to cancel.
local function cancel_follower(id, reason, ttl, now, events)
  local payload = redis.call('GET', PAYLOAD .. id)
  if not payload then -- a stock worker has ended it
    redis.call('DEL', WAITS .. id)
    return false
  end
  local queue = find_queue(id, payload)
  close_job(id, queue, unrun_record(id, payload, queue, now, 'cancelled', reason), ttl, unique_of(payload), false)
  local why = ',"reason":' .. cjson.encode(reason)
  events[#events + 1] = event('job.cancelled', now, id, function_of(payload), queue, why)
  return true
end

-- What a follower needs is kept for as long as it still waits for others.
local function keep_result(id)
  local left = redis.call('PTTL', RESULT .. id)
  if left >= 0 and left < KEPT_FOR_FOLLOWERS then redis.call('PEXPIRE', RESULT .. id, KEPT_FOR_FOLLOWERS) end
end

-- Tell one follower that a job before it has ended. Returns whether that has cancelled it.
local function tell(id, earlier, state, now, events, due_by_queue)
  if redis.call('HDEL', WAITS .. id, earlier) == 0 then return false end -- it was told, or waits no more
  local how = redis.call('HGET', WAITS .. id, '*') or ''
  local priority, when, on_failure, ttl = string.match(how, '^(%d)|([^|]*)|(%a+)|(-?%d+)$')
  if not priority then return false end -- somebody else has written there
  if state ~= 'succeeded' and on_failure == 'cancel' then
    return cancel_follower(id, why_not(earlier, state), ttl, now, events)
  end
  if redis.call('HLEN', WAITS .. id) == 1 then release(id, tonumber(priority), when, now, due_by_queue)
  else keep_result(earlier) end
  return false
end

-- Tell the followers of jobs that have ended. Both lists grow by the followers that this ends.
-- Returns whether some are left to tell.
local function go_through(ids, states, events)
  local now, left, unfinished, due_by_queue, n = clock(), MOST_TOLD, false, {}, 1
  while n <= #ids do
    local id, state = ids[n], states[n]
    local followers = left > 0 and redis.call('LRANGE', FOLLOWERS .. id, 0, left - 1) or {}
    if #followers > 0 then redis.call('LTRIM', FOLLOWERS .. id, #followers, -1) end
    left = left - #followers
    for _, follower in ipairs(followers) do
      local cancelled = tell(follower, id, state, now, events, due_by_queue)
      if cancelled and redis.call('SISMEMBER', FOLLOWED, follower) == 1 then
        ids[#ids + 1], states[#states + 1] = follower, 'cancelled'
      end
    end
    if redis.call('EXISTS', FOLLOWERS .. id) == 1 then
      unfinished = true
      redis.call('HSET', ENDED, id, state)
    else
      redis.call('SREM', FOLLOWED, id)
      redis.call('HDEL', ENDED, id)
    end
    n = n + 1
  end
  for queue, due in pairs(due_by_queue) do wake(queue, due, now) end
  return unfinished
end

-- These jobs have ended like that: who was to run after them is told.
local function tell_followers(ids, states, events)
  if #ids == 0 or redis.call('EXISTS', FOLLOWED) == 0 then return end
  local followed, how = {}, {}
  for n, is_followed in ipairs(redis.call('SMISMEMBER', FOLLOWED, unpack(ids))) do
    if is_followed == 1 then followed[#followed + 1], how[#how + 1] = ids[n], states[n] end
  end
  if #followed > 0 and go_through(followed, how, events) then redis.call('PUBLISH', CONTROL, 'followers') end
end
