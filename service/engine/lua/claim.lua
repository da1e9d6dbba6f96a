-- Take due jobs: lease each to this worker and move it out of the due window until the lease ends.
-- KEYS: paused, last claim of this worker, then the queues in the order to serve them
-- ARGV: worker id, lease ms, events kept, claim number, room, then how many to take at most from each queue
-- Returns {time now, time of the claim, ms until the next job is due or -1, how many more are due where all that were
--   asked for were there, ids asked to abort, then for each queue that gave jobs: its index from 0, their ids in lists of
--   up to 16, each as JSON, their scores with a space between, their payloads, and as JSON, by their place from 1, what
--   is unusual: {place: [attempt, lost, aborted, noted]}, where [1,0,0,0] is usual}.
--   The token of a job is worker|time of the claim|attempt|lost.
-- A call repeated with the same number returns the same jobs again.
-- Numbers are given to Redis as text where they can be: to make one of a number costs as much as a small command. And
-- what is long is put together once, as Lua reads through each text that it makes or is given.
local by_now = now_text .. '.9' -- whatever the fraction of a place says

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
local asked_before = ARGV[4] .. ' '
local soonest, left = nil, 0
if redis.call('GETRANGE', KEYS[2], '0', #asked_before - 1) == asked_before then
  repeat_last(cjson.decode(redis.call('GETRANGE', KEYS[2], #asked_before, '-1')))
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
  if #note > 1 then
    note[1], note[#note] = asked_before .. '[' .. note[1], note[#note] .. ']'
    redis.call('SET', KEYS[2], table.concat(note, ','), 'PX', lease)
  end
end
emit({}, ARGV[3])
local aborts = aborting and redis.call('ZRANGE', ABORT, '0', '999') or {}
return {now, at, soonest and math.max(0, math.ceil(soonest - now)) or -1, left, aborts, unpack(reply)}
