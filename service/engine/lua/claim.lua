-- Take due jobs: lease each to this worker and move it out of the due window until the lease ends.
-- KEYS: paused, last claim of this worker, then the queues in the order to serve them
-- ARGV: worker id, lease ms, events kept, claim number, room, then how many to take at most from each queue
-- Returns {time now, time of the claim, ms until the next job is due or -1, how many more are due where all that were
--   asked for were there, ids asked to abort, jobs: id, payload, score, rest …}. The rest is
--   [attempt, lost, aborted, noted, queue index from 0] as JSON, '' for the usual [1,0,0,0,0].
--   The token of a job is worker|time of the claim|attempt|lost.
-- A call repeated with the same number returns the same jobs again.
local now, lease, worker = clock(), ARGV[2], ARGV[1]
local at = now
local now_text, lease_until = int(now), lease_end(now, lease)
local by_now = now_text .. '.9' -- whatever the fraction of a place says
local jobs, values, claimed = {}, 0, {}
local aborting = redis.call('ZCARD', ABORT) > 0

-- What its past says of a job: which attempt this is, how often it was lost, and so its token. Most have none.
local NEW = {attempt = 1, lost = 0, token = worker .. '|' .. now_text .. '|1|0'}
local function past_of(attempt, lost, noted, expired)
  local token = worker .. '|' .. now_text .. '|' .. attempt .. '|' .. lost
  return {attempt = attempt, lost = lost, token = token, noted = noted, expired = expired}
end

-- ARQ's client moves a job to the head, at 1, before it asks to abort it. One that waits for others is there for nothing
-- else, and must not run.
local function brought_forward(id, score) return score == '1' and redis.call('EXISTS', WAITS .. id) == 1 end

local function add(id, score, past, payload, index)
  local aborted, rest = aborting and abort_asked(id, payload) or brought_forward(id, score), ''
  if aborted or past ~= NEW or index > 0 then
    rest = string.format('[%d,%d,%d,%d,%d]', past.attempt, past.lost, aborted and 1 or 0, past.noted and 1 or 0, index)
  end
  jobs[values + 1], jobs[values + 2], jobs[values + 3], jobs[values + 4] = id, payload or '', score, rest
  values = values + 4
end

-- When a job was due is not known any more: its place says when it was claimed.
local function repeat_last(last)
  at = last.at
  local index_of = {} -- their order may be another one now
  for index = 3, #KEYS do index_of[KEYS[index]] = index - 3 end
  for _, from in ipairs(last.queues) do
    for _, id in ipairs(from.ids) do
      local token = redis.call('GET', LEASE .. id) or ''
      local attempt, lost = string.match(token, '|' .. int(at) .. '|(%d+)|(%d+)$')
      if attempt and string.sub(token, 1, #worker) == worker then
        local score = redis.call('EXISTS', WAITS .. id) == 1 and '1' or int(at)
        local noted = redis.call('EXISTS', NOTES .. id) == 1
        add(id, score, past_of(tonumber(attempt), tonumber(lost), noted), redis.call('GET', PAYLOAD .. id), index_of[from.queue])
      end
    end
  end
end

-- Lease one job, of which `counted` attempts were counted. Returns its past, nil when somebody else holds it.
local function lease_job(id, score, counted)
  local noted, past = is_noted(score), NEW
  local expired = noted and is_lease_end(score)
  if (expired or aborting) and redis.call('EXISTS', LEASE .. id) == 1 then return nil end
  if expired then past = past_of(counted or 1, note_loss(id, score), true, true)
  elseif noted then past = past_of((counted or 0) + 1, tonumber(redis.call('HGET', NOTES .. id, 'lost') or 0), true)
  elseif counted then past = past_of(counted + 1, 0) end
  if not redis.call('SET', LEASE .. id, past.token, 'NX', 'PX', lease) then return nil end
  if counted and not expired then keep_count(id, past.attempt) end
  return past
end

-- Of leases that had run out, before it is told that their jobs start again.
local function tell_losses(taken, payloads, queue)
  local losses = {}
  for n, past in ipairs(taken.pasts) do
    if past.expired then
      local id, lost = taken.ids[n], ',"lost":' .. past.lost
      losses[#losses + 1] = event('job.lost', now, id, function_of(payloads[n]), queue, lost)
    end
  end
  emit(losses, ARGV[3])
end

-- What is the same for each job of a queue is done for all of them at once: a call from Lua costs more than it does.
local function hand_over(taken, queue, index)
  if #taken.ids == 0 then return end
  redis.call('ZADD', queue, 'XX', unpack(taken.places))
  local payloads = redis.call('MGET', unpack(taken.payload_keys))
  tell_losses(taken, payloads, queue)
  claimed[#claimed + 1] = {queue = queue, ids = taken.ids}
  local began = '{"type":"job.started","at":' .. now_text .. ',"queue":"' .. queue_label(queue)
    .. '","worker_id":"' .. worker .. '","function":"'
  local head, head_fn, head_attempt = '', nil, nil -- one is often as the one before
  for n, id in ipairs(taken.ids) do
    local past, fn = taken.pasts[n], function_of(payloads[n])
    add(id, taken.scores[n], past, payloads[n], index)
    if fn ~= head_fn or past.attempt ~= head_attempt then
      head, head_fn, head_attempt = began .. fn .. '","attempt":' .. past.attempt, fn, past.attempt
    end
    happened(id, head)
  end
end

local function counts_of(due)
  local names = {}
  for i = 1, #due, 2 do names[(i + 1) / 2] = COUNT .. due[i] end
  return #due > 0 and redis.call('MGET', unpack(names)) or names
end

-- Jobs that a stock worker runs stay due, so look past them, within a bound.
local function take_from(queue, index, most)
  local taken, n, skipped = {ids = {}, scores = {}, pasts = {}, places = {}, payload_keys = {}}, 0, 0
  while n < most and skipped < 1000 do
    local asked, offset = most - n, skipped + n
    local due = redis.call('ZRANGEBYSCORE', queue, '-inf', by_now, 'WITHSCORES', 'LIMIT', offset, asked)
    local counts = counts_of(due)
    for i = 1, #due, 2 do
      local id, score, counted = due[i], due[i + 1], counts[(i + 1) / 2]
      local past = lease_job(id, score, counted and tonumber(string.match(counted, '^%d+$')))
      if past then
        n = n + 1
        taken.ids[n], taken.scores[n], taken.pasts[n] = id, score, past
        taken.places[2 * n - 1], taken.places[2 * n], taken.payload_keys[n] = lease_until, id, PAYLOAD .. id
      else
        skipped = skipped + 1
      end
    end
    if #due < 2 * asked then break end
  end
  hand_over(taken, queue, index)
  return n
end

-- A delayed job with a priority is queued by its due time; when that comes, it moves ahead.
local function raise_priorities(queue)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', RISING .. queue, '-inf', now, 'LIMIT', 0, 200)) do
    local id = string.sub(member, 2)
    local score = redis.call('ZSCORE', queue, id)
    if score and not is_lease_end(score) then
      redis.call('ZADD', queue, place(tonumber(int(score)), tonumber(string.sub(member, 1, 1)), is_noted(score)), id)
    end
    redis.call('ZREM', RISING .. queue, member)
  end
end

local function next_due(queue)
  local first = redis.call('ZRANGEBYSCORE', queue, '(' .. by_now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return first[2] and tonumber(first[2])
end

local last = redis.call('GET', KEYS[2])
last = last and cjson.decode(last)
local soonest, left = nil, 0
if last and last.number == ARGV[4] then
  repeat_last(last)
else
  local room = tonumber(ARGV[5])
  for index = 3, #KEYS do
    local most = math.min(room, tonumber(ARGV[index + 3]))
    if most > 0 and redis.call('HEXISTS', KEYS[1], queue_label(KEYS[index])) == 0 then
      raise_priorities(KEYS[index])
      local taken = take_from(KEYS[index], index - 3, most)
      room = room - taken
      if taken < most then
        local due = next_due(KEYS[index])
        if due and (not soonest or due < soonest) then soonest = due end
      else
        left = left + redis.call('ZCOUNT', KEYS[index], '-inf', by_now)
      end
    end
  end
  if #claimed > 0 then
    redis.call('SET', KEYS[2], cjson.encode({number = ARGV[4], at = now, queues = claimed}), 'PX', lease)
  end
end
emit({}, ARGV[3])
local aborts = aborting and redis.call('ZRANGE', ABORT, 0, 999) or {}
return {now, at, soonest and math.max(0, math.ceil(soonest - now)) or -1, left, aborts, jobs}
