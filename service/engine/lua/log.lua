-- Add lines to the logs of running jobs, each for the job's owner only. Of a log, the newest lines are kept.
-- ARGV: events kept, most lines, most bytes, then per job: id, token, queue, how many lines the attempt has logged
--   before these, how many these are, the lines as JSON
-- Returns one number per job: 1 added (or found: a repeated call adds nothing), 0 refused.
local most_lines, most_bytes, now = tonumber(ARGV[2]), tonumber(ARGV[3]), clock()
local events, reply, i = {}, {}, 4

local function add(id, token, queue, before, first, last)
  local notes, key, after = NOTES .. id, LOGS .. id, before + last - first + 1
  local known = redis.call('HMGET', notes, 'log_token', 'log_attempt', 'log_bytes')
  local seen, bytes = known[1] == token and tonumber(known[2]) or 0, tonumber(known[3] or 0)
  if before > seen then -- its worker had no room for those between: what is older than they goes, too
    redis.call('DEL', key)
    bytes = 0
  end
  first = first + math.max(0, seen - before)
  if first > last then return end

  for place = first, last do bytes = bytes + #ARGV[place] end
  local length = redis.call('RPUSH', key, unpack(ARGV, first, last))
  while length > most_lines or bytes > most_bytes do
    bytes, length = bytes - #redis.call('LPOP', key), length - 1
  end
  local lines = redis.call('HINCRBY', notes, 'log_lines', after - seen)
  redis.call('HSET', notes, 'log_token', token, 'log_attempt', after, 'log_bytes', bytes)
  keep_notes(id, 0)
  local fn = function_of(redis.call('GET', PAYLOAD .. id))
  events[#events + 1] = event('job.log', now, id, fn, queue, ',"lines":' .. int(lines))
end

while i <= #ARGV do
  local id, token, queue, first = ARGV[i], ARGV[i + 1], ARGV[i + 2], i + 5
  local last = first + tonumber(ARGV[i + 4]) - 1
  local owned = owns(id, token, queue)
  if owned then add(id, token, queue, tonumber(ARGV[i + 3]), first, last) end
  reply[#reply + 1] = owned and 1 or 0
  i = last + 1
end
emit(events, ARGV[1])
return reply
