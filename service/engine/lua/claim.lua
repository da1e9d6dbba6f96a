-- Take due jobs: lease each to this worker and move it out of the due window until the lease ends.
-- KEYS: paused, last claim of this worker, then the queues in the order to serve them
-- ARGV: worker id, lease ms, events kept, claim number, room, then how many to take at most from each queue
-- Returns {time of the claim, ms until the next job is due or -1, ids asked to abort, jobs: id, payload, attempt,
--   score, lost, aborted, noted, queue index from 0 …}. The token of a job is worker|time of the claim|attempt|lost.
-- A call repeated with the same number returns the same jobs again.
local now, lease, worker = clock(), tonumber(ARGV[2]), ARGV[1]
local now_text, lease_until = int(now), lease_end(now, lease)
local by_now = now_text .. '.9' -- whatever the fraction of a place says
local worker_part = ',"worker_id":"' .. worker .. '"}'
local jobs, events, claimed = {}, {}, {}
local aborting = redis.call('ZCARD', ABORT) > 0

-- ARQ's client moves a job to the head, at 1, before it asks to abort it. One that waits for others is there for nothing
-- else, and must not run.
local function brought_forward(id, score) return score == '1' and redis.call('EXISTS', WAITS .. id) == 1 end

local function add(id, payload, attempt, score, lost, index)
  local n = #jobs
  jobs[n + 1], jobs[n + 2], jobs[n + 3], jobs[n + 4], jobs[n + 5] = id, payload or '', attempt, score, lost
  jobs[n + 6] = (aborting and abort_asked(id, payload) or brought_forward(id, score)) and 1 or 0
  jobs[n + 7] = (lost > 0 or is_noted(score)) and 1 or 0
  jobs[n + 8] = index
end

local function repeat_last(last)
  now = last.at
  for i = 1, #last.jobs, 2 do
    local id = last.jobs[i]
    local token = redis.call('GET', LEASE .. id) or ''
    local attempt, lost = string.match(token, '|' .. int(last.at) .. '|(%d+)|(%d+)$')
    if attempt and string.sub(token, 1, #worker) == worker then
      local score = redis.call('EXISTS', WAITS .. id) == 1 and '1' or int(last.at)
      add(id, redis.call('GET', PAYLOAD .. id), tonumber(attempt), score, tonumber(lost), last.jobs[i + 1])
    end
  end
end

local function lose(id, score) return note_loss(id, score), tonumber(redis.call('GET', COUNT .. id) or 1) end

local function count(id, score)
  local attempt, lost = redis.call('INCR', COUNT .. id), 0
  if attempt > 1 then redis.call('PERSIST', COUNT .. id) end
  if is_noted(score) then
    lost = tonumber(redis.call('HGET', NOTES .. id, 'lost') or 0)
  end
  return lost, attempt
end

-- Lease one job. False when somebody else holds it.
local function lease_job(id, score)
  local expired = is_lease_end(score)
  if (expired or aborting) and redis.call('EXISTS', LEASE .. id) == 1 then return false end
  local lost, attempt
  if expired then lost, attempt = lose(id, score) else lost, attempt = count(id, score) end
  local token = worker .. '|' .. now_text .. '|' .. attempt .. '|' .. lost
  if not redis.call('SET', LEASE .. id, token, 'NX', 'PX', lease) then
    redis.call('DECR', COUNT .. id)
    return false
  end
  return attempt, lost
end

-- What is the same for each job of a queue is done for all of them at once: a call from Lua costs more than it does.
local function hand_over(taken, places, payload_keys, queue, index)
  if #taken == 0 then return end
  redis.call('ZADD', queue, 'XX', unpack(places))
  local payloads = redis.call('MGET', unpack(payload_keys))
  local label = queue_label(queue)
  for i, job in ipairs(taken) do
    local id, score, attempt, lost = job[1], job[2], job[3], job[4]
    add(id, payloads[i], attempt, score, lost, index)
    claimed[#claimed + 1], claimed[#claimed + 2] = id, index
    local about = ',"at":' .. now_text .. ',"job_id":' .. quoted(id) .. ',"function":"' .. function_of(payloads[i])
      .. '","queue":"' .. label .. '"'
    if is_lease_end(score) then events[#events + 1] = '{"type":"job.lost"' .. about .. ',"lost":' .. lost .. '}' end
    events[#events + 1] = '{"type":"job.started"' .. about .. ',"attempt":' .. attempt .. worker_part
  end
end

-- Jobs that a stock worker runs stay due, so look past them, within a bound.
local function take_from(queue, index, most)
  local taken, places, payload_keys, skipped = {}, {}, {}, 0
  while #taken < most and skipped < 1000 do
    local asked, offset = most - #taken, skipped + #taken
    local due = redis.call('ZRANGEBYSCORE', queue, '-inf', by_now, 'WITHSCORES', 'LIMIT', offset, asked)
    for i = 1, #due, 2 do
      local id, score = due[i], due[i + 1]
      local attempt, lost = lease_job(id, score)
      if attempt then
        taken[#taken + 1] = {id, score, attempt, lost}
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
local soonest = nil
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
      end
    end
  end
  if #claimed > 0 then
    redis.call('SET', KEYS[2], cjson.encode({number = ARGV[4], at = now, jobs = claimed}), 'PX', lease)
  end
end
emit(events, ARGV[3])
local aborts = aborting and redis.call('ZRANGE', ABORT, 0, 999) or {}
return {now, soonest and math.max(0, math.ceil(soonest - now)) or -1, aborts, jobs}
