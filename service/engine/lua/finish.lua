-- Record the outcome of attempts that end their jobs. A stale token is refused; a repeated call answers as before.
-- ARGV: events kept, then per job: id, token, record, event without its job and end, and, as JSON and the same for most:
--   [queue, ttl ms as text (0 = keep none, -1 = for ever), unique key held or '', whether the job has notes]
-- Returns one number per job: 1 recorded, 0 refused.
local events, reply, gone, ended_in, ids, states = {}, {}, {}, {}, {}, {}
local aborting, following = redis.call('ZCARD', ABORT) > 0, redis.call('EXISTS', FOLLOWED) == 1

local read = {}
local function read_once(text)
  read[text] = read[text] or cjson.decode(text)
  return unpack(read[text])
end

-- What is the same for each job is collected and done once: a call from Lua costs more than what it does.
local function close(id, queue, record, head, ttl, unique, noted)
  keep_record(id, record, ttl, unique, noted)
  local n = #gone
  gone[n + 1], gone[n + 2], gone[n + 3] = PAYLOAD .. id, LEASE .. id, COUNT .. id
  local ended = ended_in[queue] or {}
  ended_in[queue], ended[#ended + 1] = ended, id
  happened(id, head)
  if following then
    ids[#ids + 1], states[#states + 1] = id, string.match(head, '^{"type":"job%.(%a+)"') or ''
    gone[n + 4] = WAITS .. id -- of one that a stock client has aborted while it waited for others
  end
end

for i = 2, #ARGV, 5 do
  local id, token, queue, ttl, unique, noted = ARGV[i], ARGV[i + 1], read_once(ARGV[i + 4])
  if owns(id, token, queue) then
    close(id, queue, ARGV[i + 2], ARGV[i + 3], ttl, unique, noted)
    if aborting then redis.call('ZREM', ABORT, id) end
    reply[#reply + 1] = 1
  else
    local known = redis.call('GET', RESULT .. id)
    reply[#reply + 1] = known and string.find(known, token, 1, true) and 1 or 0
  end
end

if #gone > 0 then redis.call('DEL', unpack(gone)) end
for queue, ended in pairs(ended_in) do redis.call('ZREM', queue, unpack(ended)) end
if following then tell_followers(ids, states, events) end
emit(events, ARGV[1])
return reply
