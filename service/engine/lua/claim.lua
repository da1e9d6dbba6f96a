-- Take due jobs: lease each to this worker and move it out of the due window until the lease ends.
-- KEYS: paused, last claim of this worker, then the queues in the order to serve them
-- ARGV: worker id, lease ms, events kept, claim number, room, then how many to take at most from each queue
-- Returns {time now, time of the claim, ms until the next job is due or -1, how many more are due where all that were
--   asked for were there, ids asked to abort, then for each queue that gave jobs: its index from 0, their ids as JSON in
--   lists of up to 16, their scores with a space between, their payloads, and as JSON, by their place from 1, what is
--   unusual: {place: [attempt, lost, aborted, noted]}, where [1,0,0,0] is usual}.
--   The token of a job is worker|time of the claim|attempt|lost.
-- A call repeated with the same number returns the same jobs again.
-- Numbers are given to Redis as text where they can be: to make one of a number costs as much as a small command.
local now, lease, worker = clock(), ARGV[2], ARGV[1]
local at = now
local now_text, lease_until = int(now), lease_end(now, lease)
local by_now = now_text .. '.9' -- whatever the fraction of a place says
local reply, claimed = {}, {}
local aborting = redis.call('ZCARD', ABORT) > 0
local find = string.find

-- What its past says of a job: which attempt this is, how often it was lost, and so its token. Most have none.
local NEW = {attempt = 1, lost = 0, token = worker .. '|' .. now_text .. '|1|0'}
local function past_of(attempt, lost, noted, expired)
  local token = worker .. '|' .. now_text .. '|' .. attempt .. '|' .. lost
  return {attempt = attempt, lost = lost, token = token, noted = noted, expired = expired}
end

-- ARQ's client moves a job to the head, at 1, before it asks to abort it. One that waits for others is there for nothing
-- else, and must not run.
local function is_aborted(id, score, payload)
  return aborting and abort_asked(id, payload) or score == '1' and redis.call('EXISTS', WAITS .. id) == 1
end

local function answer(index, ids, scores, payloads, pasts)
  local unusual = {}
  for n = 1, #ids do
    local past, score = pasts[n] or NEW, scores[n]
    local aborted = (aborting or score == '1') and is_aborted(ids[n], score, payloads[n])
    if aborted or past ~= NEW then
      local said = string.format('"%d":[%d,%d,%d,%d]', n, past.attempt, past.lost, aborted and 1 or 0, past.noted and 1 or 0)
      unusual[#unusual + 1] = said
    end
    payloads[n] = payloads[n] or '' -- a hole would end the answer
  end
  local as_text = '[' .. table.concat(as_json(ids), ',') .. ']'
  for _, part in ipairs({index, as_text, table.concat(scores, ' '), payloads, '{' .. table.concat(unusual, ',') .. '}'}) do
    reply[#reply + 1] = part
  end
  return as_text
end

-- When a job was due is not known any more: its place says when it was claimed.
local function repeat_queue(ids, index)
  local kept, scores, payloads, pasts = {}, {}, {}, {}
  for _, id in ipairs(ids) do
    local token = redis.call('GET', LEASE .. id) or ''
    local attempt, lost = string.match(token, '|' .. int(at) .. '|(%d+)|(%d+)$')
    if attempt and string.sub(token, 1, #worker) == worker then
      local n = #kept + 1
      kept[n], scores[n] = id, redis.call('EXISTS', WAITS .. id) == 1 and '1' or int(at)
      payloads[n] = redis.call('GET', PAYLOAD .. id)
      pasts[n] = past_of(tonumber(attempt), tonumber(lost), redis.call('EXISTS', NOTES .. id) == 1)
    end
  end
  answer(index, kept, scores, payloads, pasts)
end

local function repeat_last(last)
  at = last.at
  local index_of = {} -- their order may be another one now
  for index = 3, #KEYS do index_of[KEYS[index]] = index - 3 end
  for _, from in ipairs(last.queues) do
    local ids = {}
    for _, some in ipairs(from.ids) do
      for _, id in ipairs(some) do ids[#ids + 1] = id end
    end
    repeat_queue(ids, index_of[from.queue])
  end
end

-- The past of a job that is not new, of which `counted` attempts were counted. Nil when somebody else holds it.
local function past_told(id, score, counted)
  local noted = is_noted(score)
  local expired = noted and is_lease_end(score)
  if (expired or aborting) and redis.call('EXISTS', LEASE .. id) == 1 then return nil end
  if expired then return past_of(counted or 1, note_loss(id, score), true, true) end
  if noted then return past_of((counted or 0) + 1, tonumber(redis.call('HGET', NOTES .. id, 'lost') or 0), true) end
  return counted and past_of(counted + 1, 0) or NEW
end

-- Lease one job. Returns its past, nil when somebody else holds it.
local function lease_job(id, score, count)
  local counted = count and tonumber(string.match(count, '^%d+$'))
  local past = NEW
  if counted or aborting or find(score, '.', 1, true) then past = past_told(id, score, counted) end
  if not past or not redis.call('SET', LEASE .. id, past.token, 'NX', 'PX', lease) then return nil end
  if counted and not past.expired then keep_count(id, past.attempt) end
  return past
end

-- Of leases that had run out, before it is told that their jobs start again.
local function tell_losses(ids, pasts, payloads, queue)
  local losses = {}
  for n, id in ipairs(ids) do
    local past = pasts[n]
    if past and past.expired then
      losses[#losses + 1] = event('job.lost', now, id, function_of(payloads[n]), queue, ',"lost":' .. past.lost)
    end
  end
  emit(losses, ARGV[3])
end

-- That they start: alike where function, with which a payload of ours begins, and attempt are those of the one before.
local function tell_starts(ids, pasts, payloads, queue)
  local began = '{"type":"job.started","at":' .. now_text .. ',"queue":"' .. queue_label(queue)
    .. '","worker_id":"' .. worker .. '","function":"'
  local told, beginning, length, attempt
  for n = 1, #ids do
    local past, payload = pasts[n] or NEW, payloads[n] or ''
    if not beginning or past.attempt ~= attempt or string.sub(payload, 1, length) ~= beginning then
      local fn = function_of(payload)
      beginning, attempt = '{"f":"' .. fn .. '"', past.attempt
      length, told = #beginning, all_of(began .. fn .. '","attempt":' .. attempt)
    end
    told[#told + 1] = ids[n]
  end
end

-- What is the same for each job of a queue is done for all of them at once: a call from Lua costs more than it does.
local function hand_over(taken, queue, index)
  local ids, pasts = taken.ids, taken.pasts
  if #ids == 0 then return end
  redis.call('ZADD', queue, 'XX', unpack(taken.places))
  local payloads = redis.call('MGET', unpack(taken.payload_keys))
  if taken.any_lost then tell_losses(ids, pasts, payloads, queue) end
  tell_starts(ids, pasts, payloads, queue)
  claimed[#claimed + 1] = '{"queue":' .. quoted(queue) .. ',"ids":' .. answer(index, ids, taken.scores, payloads, pasts) .. '}'
end

local function counts_of(due)
  local names = {}
  for i = 1, #due, 2 do names[#names + 1] = COUNT .. due[i] end
  return #due > 0 and redis.call('MGET', unpack(names)) or names
end

-- Jobs that a stock worker runs stay due, so look past them, within a bound.
local function take_from(queue, index, most)
  local ids, scores, pasts, places, payload_keys, n, skipped = {}, {}, {}, {}, {}, 0, 0
  local any_lost = false
  while n < most and skipped < 1000 do
    local asked, offset = most - n, skipped + n
    local due = redis.call('ZRANGEBYSCORE', queue, '-inf', by_now, 'WITHSCORES', 'LIMIT', offset > 0 and offset or '0', asked)
    local counts = counts_of(due)
    for i = 1, #due, 2 do
      local id, score = due[i], due[i + 1]
      local past = lease_job(id, score, counts[(i + 1) / 2])
      if past then
        n = n + 1
        ids[n], scores[n], payload_keys[n] = id, score, PAYLOAD .. id
        places[2 * n - 1], places[2 * n] = lease_until, id
        if past ~= NEW then pasts[n], any_lost = past, any_lost or past.expired end
      else
        skipped = skipped + 1
      end
    end
    if #due < 2 * asked then break end
  end
  local taken = {ids = ids, scores = scores, pasts = pasts, places = places, payload_keys = payload_keys, any_lost = any_lost}
  hand_over(taken, queue, index)
  return n
end

-- A delayed job with a priority is queued by its due time; when that comes, it moves ahead.
local function raise_priorities(queue)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', RISING .. queue, '-inf', now_text, 'LIMIT', '0', '200')) do
    local id = string.sub(member, 2)
    local score = redis.call('ZSCORE', queue, id)
    if score and not is_lease_end(score) then
      redis.call('ZADD', queue, place(tonumber(int(score)), tonumber(string.sub(member, 1, 1)), is_noted(score)), id)
    end
    redis.call('ZREM', RISING .. queue, member)
  end
end

local function next_due(queue)
  local first = redis.call('ZRANGEBYSCORE', queue, '(' .. by_now, '+inf', 'WITHSCORES', 'LIMIT', '0', '1')
  return first[2] and tonumber(first[2])
end

-- What was taken last is written with its number first: it is read only when it is asked for again.
local last, asked_before = redis.call('GET', KEYS[2]), ARGV[4] .. ' '
local soonest, left = nil, 0
if last and string.sub(last, 1, #asked_before) == asked_before then
  repeat_last(cjson.decode(string.sub(last, #asked_before + 1)))
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
    local taken = asked_before .. '{"at":' .. now_text .. ',"queues":[' .. table.concat(claimed, ',') .. ']}'
    redis.call('SET', KEYS[2], taken, 'PX', lease)
  end
end
emit({}, ARGV[3])
local aborts = aborting and redis.call('ZRANGE', ABORT, '0', '999') or {}
return {now, at, soonest and math.max(0, math.ceil(soonest - now)) or -1, left, aborts, unpack(reply)}
