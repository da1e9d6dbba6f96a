-- Record the outcome of attempts that end their jobs. A stale token is refused; a repeated call answers as before.
-- ARGV: events kept, then per job: id, token, queue, record, ttl ms (0 = keep none, -1 = for ever), event,
--   unique key held or '', '1' when the job has notes
-- Returns one number per job: 1 recorded, 0 refused.
local events, reply = {}, {}
local aborting = redis.call('ZCARD', ABORT) > 0

for i = 2, #ARGV, 8 do
  local id, token, queue, record = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if owns(id, token, queue) then
    close_job(id, queue, record, ARGV[i + 4], ARGV[i + 6], ARGV[i + 7] == '1')
    if aborting then redis.call('ZREM', ABORT, id) end
    events[#events + 1] = ARGV[i + 5]
    reply[#reply + 1] = 1
  else
    local known = redis.call('GET', RESULT .. id)
    reply[#reply + 1] = known and string.find(known, token, 1, true) and 1 or 0
  end
end

emit(events, ARGV[1])
return reply
