-- Create jobs. One call may carry many, each decided on its own; repeating a call after a lost reply changes nothing.
-- ARGV: events kept, ttl of cancelled jobs, then per job: id, queue, payload without its end, when, options
--   when: '' now | '+ms' after a delay | '@ms' at a time; options: '' or JSON {priority, unique, unique_ttl,
--   on_conflict, idempotency, fingerprint, idempotency_ttl, max_pending}
-- Returns {now, then per job: code, id} with code created | exists | conflict | mismatch | full.
local now, events, due_by_queue = clock(), {}, {}
local reply = {now}

local function free_unique(id, queue, options)
  local holder = redis.call('GET', UNIQUE .. options.unique)
  if not holder or holder == id then return nil end
  local payload = redis.call('GET', PAYLOAD .. holder)
  local timed = redis.call('PTTL', UNIQUE .. options.unique) > 0
  if not payload and not timed then return nil end
  if options.on_conflict ~= 'replace' then return holder end
  if payload and not redis.call('GET', LEASE .. holder) then
    local held_in = find_queue(holder, payload)
    local record = unrun_record(holder, payload, held_in, now, 'cancelled', 'replaced by ' .. id)
    close_job(holder, held_in, record, ARGV[2], '', true)
    events[#events + 1] = event('job.cancelled', now, holder, function_of(payload), held_in)
  end
  return nil
end

local function refuse(id, queue, options)
  if options.idempotency then
    local known = redis.call('HMGET', options.idempotency, 'job', 'fingerprint')
    if known[1] then return known[2] == options.fingerprint and 'exists' or 'mismatch', known[1] end
  end
  if options.max_pending and redis.call('ZCARD', queue) >= options.max_pending then return 'full', id end
  if options.unique then
    local holder = free_unique(id, queue, options)
    if holder then return options.on_conflict == 'reject' and 'conflict' or 'exists', holder end
  end
end

local function hold(id, options)
  if options.unique then
    if options.unique_ttl then redis.call('SET', UNIQUE .. options.unique, id, 'PX', options.unique_ttl)
    else redis.call('SET', UNIQUE .. options.unique, id) end
  end
  if options.idempotency then
    redis.call('HSET', options.idempotency, 'job', id, 'fingerprint', options.fingerprint)
    redis.call('PEXPIRE', options.idempotency, options.idempotency_ttl)
  end
end

local function create(id, queue, body, when, options)
  local due = now
  if when ~= '' then
    local value = tonumber(string.sub(when, 2))
    due = string.sub(when, 1, 1) == '+' and now + value or value
  end
  redis.call('SET', PAYLOAD .. id, body .. ',"et":' .. int(now) .. '}')
  redis.call('ZADD', queue, place(due, due <= now and options.priority or 0), id)
  if due > now and options.priority then redis.call('ZADD', RISING .. queue, due, options.priority .. id) end
  hold(id, options)
  due_by_queue[queue] = math.min(due_by_queue[queue] or due, due)
  events[#events + 1] = event('job.created', now, id, function_of(body), queue)
end

for i = 3, #ARGV, 5 do
  local id, queue, body, when = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local options = ARGV[i + 4] == '' and {} or cjson.decode(ARGV[i + 4])
  local code, other = 'created', id
  if redis.call('EXISTS', PAYLOAD .. id, RESULT .. id) == 0 then
    local refusal, holder = refuse(id, queue, options)
    if refusal then code, other = refusal, holder else create(id, queue, body, when, options) end
  end
  reply[#reply + 1] = code
  reply[#reply + 1] = other
end

for queue, due in pairs(due_by_queue) do
  redis.call('ZADD', QUEUES, now, queue)
  wake(queue, due, now)
end
emit(events, ARGV[1])
return reply
