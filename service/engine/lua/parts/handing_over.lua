-- Of a claim: the worker is told what it has got, and everybody else that it starts.
-- `note`: what makes up [time of the claim, queue, ids, more ids…, another queue, …], from which the same is told again.
local reply, note = {}, {now_text}

-- ARQ's client moves a job to the head, at 1, before it asks to abort it. One that waits for others is there for nothing
-- else, and must not run.
local function is_aborted(id, score, payload)
  return aborting and abort_asked(id, payload) or score == '1' and redis.call('EXISTS', WAITS .. id) == 1
end

local function answer(index, ids, lists, scores, payloads, pasts)
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
  for _, part in ipairs({index, lists, table.concat(scores, ' '), payloads, '{' .. table.concat(unusual, ',') .. '}'}) do
    reply[#reply + 1] = part
  end
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
local function tell_starts(ids, lists, pasts, payloads, queue)
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
  told.lists = #told == #ids and lists or nil
end

-- What is the same for each job of a queue is done for all of them at once: a call from Lua costs more than it does.
local function hand_over(taken, queue, index)
  local ids, pasts = taken.ids, taken.pasts
  if #ids == 0 then return end
  redis.call('ZADD', queue, 'XX', unpack(taken.places))
  local payloads = redis.call('MGET', unpack(taken.payload_keys))
  if taken.any_lost then tell_losses(ids, pasts, payloads, queue) end
  local lists = as_json(ids)
  tell_starts(ids, lists, pasts, payloads, queue)
  answer(index, ids, lists, taken.scores, payloads, pasts)
  note[#note + 1] = quoted(queue)
  for _, list in ipairs(lists) do note[#note + 1] = list end
end
