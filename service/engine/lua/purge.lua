-- Cancel what waits in a queue, one part of it; what runs goes on, and what was enqueued since the first part stays.
-- ARGV: events kept, queue, cursor (0 for the first part), how many to look at, ttl ms of the records, reason,
--   time of the first part or ''
-- Returns {next cursor (0 = all was seen), how many were cancelled, time of the first part}.
local queue, now = ARGV[2], clock()
local begun = ARGV[7] == '' and now or tonumber(ARGV[7])
local events, gone, ended, cancelled, states = {}, {}, {}, {}, {}
local rising, aborting = redis.call('EXISTS', RISING .. queue) == 1, redis.call('EXISTS', ABORT) == 1

local function is_newer(payload)
  local enqueued = string.match(payload, '"et": ?(%d+)}$')
  return enqueued and tonumber(enqueued) > begun
end

-- What is the same for each job is collected and done once: a call from Lua costs more than what it does.
local function cancel(id, payload)
  local record = unrun_record(id, payload, queue, now, 'cancelled', ARGV[6])
  keep_record(id, record, ARGV[5], unique_of(payload), true)
  gone[#gone + 1], gone[#gone + 2], gone[#gone + 3] = PAYLOAD .. id, COUNT .. id, WAITS .. id
  ended[#ended + 1], cancelled[#cancelled + 1], states[#states + 1] = id, id, 'cancelled'
  for priority = 1, rising and 9 or 0 do redis.call('ZREM', RISING .. queue, priority .. id) end
  events[#events + 1] = event('job.cancelled', now, id, function_of(payload), queue)
end

local seen = redis.call('ZSCAN', queue, ARGV[3], 'COUNT', ARGV[4])
for i = 1, #seen[2], 2 do
  local id = seen[2][i]
  if redis.call('EXISTS', LEASE .. id) == 0 then
    local payload = redis.call('GET', PAYLOAD .. id)
    if not payload then
      local n = #gone
      gone[n + 1], gone[n + 2], gone[n + 3], ended[#ended + 1] = COUNT .. id, NOTES .. id, LOGS .. id, id
    elseif string.sub(payload, 1, 1) ~= '{' then
      redis.call('ZADD', ABORT, now, id) -- a stock client's pickle: whoever claims it ends it
    elseif not is_newer(payload) then
      cancel(id, payload)
    end
  end
end
if #ended > 0 then
  redis.call('DEL', unpack(gone))
  redis.call('ZREM', queue, unpack(ended))
  if aborting then redis.call('ZREM', ABORT, unpack(ended)) end
end
tell_followers(cancelled, states, events)
emit(events, ARGV[1])
return {seen[1], #events, int(begun)}
