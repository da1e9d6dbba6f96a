-- Shared by the scripts that create jobs, which judge each before any is written (see creating.lua).
-- A job is five arguments: id, queue, payload without its end, when, options
--   when: '' now | '+ms' after a delay | '@ms' at a time; options: '' or JSON {priority, unique, unique_ttl,
--   on_conflict, idempotency, fingerprint, idempotency_ttl, max_pending, after, on_failure,
--   functions, queues: patterns of the jobs that its caller may meet}
-- Its code: created | exists (another job holds its unique key and answers for it) | created_before, exists_before
-- (its Idempotency-Key was answered like that) | conflict | foreign (its caller may not meet the holder) | mismatch |
-- full | orphan (a job before it is not there)
local now, events, no_options = clock(), {}, {}
local made, held, known, added = {}, {}, {}, {} -- what this call will make: jobs (where), holders, keys, jobs per queue

-- Read once, though looked at twice, and often the same for many jobs.
local read = {[''] = no_options}
local function options_at(i)
  local text = ARGV[i + 4]
  read[text] = read[text] or cjson.decode(text)
  return read[text]
end

-- Ids that an earlier call with the same jobs has made, which are few or none: asked for many at once. Of those that
-- were deleted, or ended and kept no record, DELETED tells.
local function made_before(first)
  local found = {}
  for from = first, #ARGV, 2500 do
    local names, to, n = {}, math.min(from + 2499, #ARGV), 0
    for i = from, to, 5 do
      local id = ARGV[i]
      names[n + 1], names[n + 2], names[n + 3], n = PAYLOAD .. id, RESULT .. id, DELETED .. id, n + 3
    end
    if redis.call('EXISTS', unpack(names)) > 0 then
      for n = 1, #names, 3 do
        found[ARGV[from + (n - 1) / 3 * 5]] = redis.call('EXISTS', names[n], names[n + 1], names[n + 2]) > 0
      end
    end
  end
  return found
end

-- The other job that holds a unique key. None when the key is free.
local function holder_of(id, options)
  local key = UNIQUE .. options.unique
  local holder = held[key] or redis.call('GET', key)
  if not holder or holder == id then return nil end
  if made[holder] or redis.call('EXISTS', PAYLOAD .. holder) == 1 or redis.call('PTTL', key) > 0 then return holder end
end

local function may_meet(holder, options)
  if not options.functions then return true end
  local i, fn, queue = made[holder], nil, nil
  if i then fn, queue = function_of(ARGV[i + 2]), ARGV[i + 1] else fn, queue = touched_by(holder) end
  return one_fits(options.functions, fn) and one_fits(options.queues, queue_label(queue))
end

local function judge(id, queue, options)
  if options.idempotency then
    local before = known[options.idempotency] or redis.call('HMGET', options.idempotency, 'job', 'fingerprint', 'code')
    if before[1] then
      if before[2] ~= options.fingerprint then return 'mismatch', before[1] end
      return (before[3] or 'created') .. '_before', before[1]
    end
  end
  for _, earlier in ipairs(options.after or no_options) do
    if not made[earlier] and redis.call('EXISTS', PAYLOAD .. earlier, RESULT .. earlier) == 0 then
      return 'orphan', earlier
    end
  end
  local holder = options.unique and holder_of(id, options)
  if holder and not may_meet(holder, options) then return 'foreign', id end
  if holder and options.on_conflict ~= 'replace' then
    return options.on_conflict == 'reject' and 'conflict' or 'exists', holder
  end
  if options.max_pending and redis.call('ZCARD', queue) + (added[queue] or 0) >= options.max_pending then
    return 'full', id
  end
  return 'created', id
end

-- Returns per job: code, id of the job that answers; and which were made before.
local function judge_all(first)
  local answers, before = {}, made_before(first)
  for i = first, #ARGV, 5 do
    local id, queue, options = ARGV[i], ARGV[i + 1], options_at(i)
    local code, other = 'created', id
    if not before[id] then
      code, other = judge(id, queue, options)
      if code == 'created' then
        made[id], added[queue] = i, (added[queue] or 0) + 1
        if options.unique then held[UNIQUE .. options.unique] = id end
      end
      if options.idempotency and not known[options.idempotency] and (code == 'created' or code == 'exists') then
        known[options.idempotency] = {other, options.fingerprint, code}
      end
    end
    answers[#answers + 1], answers[#answers + 2] = code, other
  end
  return answers
end
