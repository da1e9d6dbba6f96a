-- Take due jobs: lease each to this worker and move it out of the due window until the lease ends.
-- KEYS: paused, last claim of this worker, then the queues in the order to serve them
-- ARGV: worker id, lease ms, events kept, claim number, room, then how many to take at most from each queue
-- Returns {time now, time of the claim, ms until the next job is due or -1, how many more are due where all that were asked
--   for were there, ids asked to abort, jobs: id, payload, score, rest …}. The rest is [attempt, lost, aborted, noted, queue index from 0] as JSON, '' for the usual [1,0,0,0,0].
--   The token of a job is worker|time of the claim|attempt|lost.
-- A call repeated with the same number returns the same jobs again.
local now, lease, worker = clock(), tonumber(ARGV[2]), ARGV[1]
local at = now
local now_text, lease_until = int(now), lease_end(now, lease)
local by_now = now_text .. '.9' -- whatever the fraction of a place says
local jobs, claimed = {}, {}
local aborting = redis.call('ZCARD', ABORT) > 0

-- ARQ's client moves a job to the head, at 1, before it asks to abort it. One that waits for others is there for nothing
-- else, and must not run.
local function brought_forward(id, score) return score == '1' and redis.call('EXISTS', WAITS .. id) == 1 end

local function add(job, payload, index)
  local id, score, rest, n = job.id, job.score, '', #jobs
  local aborted = aborting and abort_asked(id, payload) or brought_forward(id, score)
  if aborted or job.noted or job.attempt > 1 or index > 0 then
    rest = string.format('[%d,%d,%d,%d,%d]', job.attempt, job.lost, aborted and 1 or 0, job.noted and 1 or 0, index)
  end
  jobs[n + 1], jobs[n + 2], jobs[n + 3], jobs[n + 4] = id, payload or '', score, rest
end

-- When a job was due is not known any more: its place says when it was claimed.
local function repeat_last(last)
  at = last.at
  for i = 1, #last.jobs, 2 do
    local id = last.jobs[i]
    local token = redis.call('GET', LEASE .. id) or ''
    local attempt, lost = string.match(token, '|' .. int(at) .. '|(%d+)|(%d+)$')
    if attempt and string.sub(token, 1, #worker) == worker then
      local score = redis.call('EXISTS', WAITS .. id) == 1 and '1' or int(at)
      local noted = redis.call('EXISTS', NOTES .. id) == 1
      local job = {id = id, score = score, attempt = tonumber(attempt), lost = tonumber(lost), noted = noted}
      add(job, redis.call('GET', PAYLOAD .. id), last.jobs[i + 1])
    end
  end
end

-- Lease one job, of which `counted` attempts were counted. Nil when somebody else holds it.
local function lease_job(id, score, counted)
  local attempt, lost, noted = (counted or 0) + 1, 0, is_noted(score)
  local expired = noted and is_lease_end(score)
  if (expired or aborting) and redis.call('EXISTS', LEASE .. id) == 1 then return nil end
  if expired then lost, attempt = note_loss(id, score), counted or 1
  elseif noted then lost = tonumber(redis.call('HGET', NOTES .. id, 'lost') or 0) end
  local token = worker .. '|' .. now_text .. '|' .. attempt .. '|' .. lost
  if not redis.call('SET', LEASE .. id, token, 'NX', 'PX', lease) then return nil end
  if counted and not expired then keep_count(id, attempt) end
  return {id = id, score = score, attempt = attempt, lost = lost, noted = noted, expired = expired}
end

-- Of leases that had run out, before it is told that their jobs start again.
local function tell_losses(taken, payloads, queue)
  local losses = {}
  for i, job in ipairs(taken) do
    if job.expired then
      losses[#losses + 1] = event('job.lost', now, job.id, function_of(payloads[i]), queue, ',"lost":' .. job.lost)
    end
  end
  emit(losses, ARGV[3])
end

-- What is the same for each job of a queue is done for all of them at once: a call from Lua costs more than it does.
local function hand_over(taken, places, payload_keys, queue, index)
  if #taken == 0 then return end
  redis.call('ZADD', queue, 'XX', unpack(places))
  local payloads = redis.call('MGET', unpack(payload_keys))
  tell_losses(taken, payloads, queue)
  local began = '{"type":"job.started","at":' .. now_text .. ',"queue":"' .. queue_label(queue)
    .. '","worker_id":"' .. worker .. '","function":"'
  local head, head_fn, head_attempt = '', nil, nil -- one is often as the one before
  for i, job in ipairs(taken) do
    add(job, payloads[i], index)
    claimed[#claimed + 1], claimed[#claimed + 2] = job.id, index
    local fn = function_of(payloads[i])
    if fn ~= head_fn or job.attempt ~= head_attempt then
      head, head_fn, head_attempt = began .. fn .. '","attempt":' .. job.attempt, fn, job.attempt
    end
    happened(job.id, head)
  end
end

local function counts_of(due)
  local names = {}
  for i = 1, #due, 2 do names[#names + 1] = COUNT .. due[i] end
  return #names > 0 and redis.call('MGET', unpack(names)) or names
end

-- Jobs that a stock worker runs stay due, so look past them, within a bound.
local function take_from(queue, index, most)
  local taken, places, payload_keys, skipped = {}, {}, {}, 0
  while #taken < most and skipped < 1000 do
    local asked, offset = most - #taken, skipped + #taken
    local due = redis.call('ZRANGEBYSCORE', queue, '-inf', by_now, 'WITHSCORES', 'LIMIT', offset, asked)
    local counts = counts_of(due)
    for i = 1, #due, 2 do
      local id, score = due[i], due[i + 1]
      local counted = counts[(i + 1) / 2]
      local job = lease_job(id, score, counted and tonumber(string.match(counted, '^%d+$')))
      if job then
        taken[#taken + 1] = job
        places[#places + 1], places[#places + 2] = lease_until, id
        payload_keys[#payload_keys + 1] = PAYLOAD .. id
      else
        skipped = skipped + 1
      end
    end
    if #due < 2 * asked then break end
  end
  hand_over(taken, places, payload_keys, queue, index)
  return #taken
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
    redis.call('SET', KEYS[2], cjson.encode({number = ARGV[4], at = now, jobs = claimed}), 'PX', lease)
  end
end
emit({}, ARGV[3])
local aborts = aborting and redis.call('ZRANGE', ABORT, 0, 999) or {}
return {now, at, soonest and math.max(0, math.ceil(soonest - now)) or -1, left, aborts, jobs}
