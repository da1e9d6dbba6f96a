-- Shared by the scripts that create jobs: what was judged (see judging.lua) is written, all of it together.
local now_text = int(now)
local payloads, places, due_by_queue = {}, {}, {}
local written, followed, followers = {}, {}, {} -- jobs of this call that have not ended; who is waited for, by whom

-- Call `name` with a long list, in parts that Lua can spread. `lead` comes first each time, if there is one.
local function in_parts(name, lead, list)
  for from = 1, #list, 1000 do
    local to = math.min(from + 999, #list)
    if lead then redis.call(name, lead, unpack(list, from, to)) else redis.call(name, unpack(list, from, to)) end
  end
end

-- What is the same for each job is collected and done at once: a call from Lua costs more than what it does.
local function write_collected()
  in_parts('MSET', nil, payloads)
  for queue, list in pairs(places) do in_parts('ZADD', queue, list) end
  in_parts('SADD', FOLLOWED, followed)
  for earlier, list in pairs(followers) do in_parts('RPUSH', FOLLOWERS .. earlier, list) end
  payloads, places, followed, followers = {}, {}, {}, {}
end

-- Cancel the waiting job whose unique key goes to another one. One that runs goes on without the key.
local function take_over(id, options, ttl)
  local holder = redis.call('GET', UNIQUE .. options.unique)
  if not holder or holder == id then return end
  write_collected() -- the holder may be of this very call
  local payload = redis.call('GET', PAYLOAD .. holder)
  if not payload or redis.call('EXISTS', LEASE .. holder) == 1 then return end
  local held_in = find_queue(holder, payload)
  local record = unrun_record(holder, payload, held_in, now, 'cancelled', 'replaced by ' .. id)
  close_job(holder, held_in, record, ttl, '', true)
  written[holder] = nil
  events[#events + 1] = event('job.cancelled', now, holder, function_of(payload), held_in)
  tell_followers({holder}, {'cancelled'}, events)
end

local function hold(id, options, ttl)
  if options.on_conflict == 'replace' then take_over(id, options, ttl) end
  if options.unique_ttl then redis.call('SET', UNIQUE .. options.unique, id, 'PX', options.unique_ttl)
  else redis.call('SET', UNIQUE .. options.unique, id) end
end

-- What a job waits for, as fields of a hash; and why it can never run, if a job before it did not succeed.
local function open_before(options)
  local open, reason = {}, nil
  for _, earlier in ipairs(options.after or no_options) do
    local state = not written[earlier] and ending_of(earlier)
    if not state then open[#open + 1], open[#open + 2] = earlier, ''
    elseif state ~= 'succeeded' and options.on_failure ~= 'run' then reason = reason or why_not(earlier, state) end
  end
  return open, reason
end

local function hold_back(id, when, options, ttl, open)
  local how = int(options.priority or 0) .. '|' .. when .. '|' .. (options.on_failure or 'cancel') .. '|' .. ttl
  for n = 1, #open, 2 do
    local earlier = open[n]
    local list = followers[earlier]
    if list then list[#list + 1] = id
    else followers[earlier], followed[#followed + 1] = {id}, earlier end
  end
  open[#open + 1], open[#open + 2] = '*', how
  in_parts('HSET', WAITS .. id, open)
end

local function stand(id, queue, score)
  local list = places[queue] or {}
  places[queue], list[#list + 1], list[#list + 2] = list, score, id
end

local function create(id, queue, body, when, options, ttl)
  local payload, fn = body .. ',"et":' .. now_text .. '}', function_of(body)
  local open, reason = open_before(options)
  happened(id, '{"type":"job.created","at":' .. now_text .. ',"function":"' .. fn .. '","queue":"' .. queue_label(queue) .. '"')
  if reason then
    keep_record(id, unrun_record(id, payload, queue, now, 'cancelled', reason), ttl, options.unique or '', false)
    events[#events + 1] = event('job.cancelled', now, id, fn, queue, ',"reason":' .. cjson.encode(reason))
    return
  end
  written[id] = true
  payloads[#payloads + 1], payloads[#payloads + 2] = PAYLOAD .. id, payload
  if #open > 0 then
    hold_back(id, when, options, ttl, open)
    stand(id, queue, int(HELD))
    return
  end
  local due = due_at(when, now)
  stand(id, queue, place(due, due <= now and options.priority or 0))
  if due > now and options.priority then redis.call('ZADD', RISING .. queue, due, options.priority .. id) end
  due_by_queue[queue] = math.min(due_by_queue[queue] or due, due)
end

-- Write down what was judged. `ttl`: of the record of a job that is replaced.
local function write_all(first, answers, ttl)
  local n = 1
  for i = first, #ARGV, 5 do
    local id, options = ARGV[i], options_at(i)
    if answers[n] == 'created' and made[id] then
      if options.unique then hold(id, options, ttl) end
      create(id, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], options, ttl)
      made[id] = nil -- an id that is given twice is one job
    end
    local key = options.idempotency
    if key and known[key] and (answers[n] == 'created' or answers[n] == 'exists') then
      redis.call('HSET', key, 'job', known[key][1], 'fingerprint', known[key][2], 'code', known[key][3])
      redis.call('PEXPIRE', key, options.idempotency_ttl)
    end
    n = n + 2
  end
  write_collected()
  for queue, due in pairs(due_by_queue) do
    redis.call('ZADD', QUEUES, now, queue)
    wake(queue, due, now)
  end
end
