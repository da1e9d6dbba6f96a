-- Record the outcome of attempts that end their jobs. A stale token is refused; a repeated call answers as before.
-- ARGV: events kept, then for each group of attempts that ended alike: their token, event without its jobs and end, as
--   JSON [queue, ttl ms as text (0 = keep none, -1 = for ever), unique key held or '', whether the jobs have notes], how
--   many they are, and of each its id and record.
-- Returns one number per job: 1 recorded, 0 refused.
local events, reply, gone, ended_in, ids, states = {}, {}, {}, {}, {}, {}
local aborting, following = redis.call('ZCARD', ABORT) > 0, redis.call('EXISTS', FOLLOWED) == 1

local read = {}
local function read_once(text)
  read[text] = read[text] or cjson.decode(text)
  return unpack(read[text])
end

-- What is the same for each job is collected and done once: a call from Lua costs more than what it does.
local function close(id, lease, queue, record, head, state, ttl, unique, noted)
  keep_record(id, record, ttl, unique, noted)
  local n = #gone
  gone[n + 1], gone[n + 2], gone[n + 3] = PAYLOAD .. id, lease, COUNT .. id
  local ended = ended_in[queue] or {}
  ended_in[queue], ended[#ended + 1] = ended, id
  happened(id, head)
  if following then
    ids[#ids + 1], states[#states + 1] = id, state
    gone[n + 4] = WAITS .. id -- of one that a stock client has aborted while it waited for others
  end
end

-- Those of one group. Returns where the next one begins.
local function close_alike(at)
  local token, head, queue, ttl, unique, noted = ARGV[at], ARGV[at + 1], read_once(ARGV[at + 2])
  local first, next_group, leases = at + 4, at + 4 + 2 * ARGV[at + 3], {}
  local state = string.match(head, '^{"type":"job%.(%a+)"') or ''
  for i = first, next_group - 1, 2 do leases[#leases + 1] = LEASE .. ARGV[i] end
  for n, owner in ipairs(redis.call('MGET', unpack(leases))) do
    local id, record = ARGV[first + 2 * n - 2], ARGV[first + 2 * n - 1]
    if owner == token or owns(id, token, queue) then
      close(id, leases[n], queue, record, head, state, ttl, unique, noted)
      if aborting then redis.call('ZREM', ABORT, id) end
      if ttl == '0' then redis.call('SET', DELETED .. id, token, 'PX', 60000) end
      reply[#reply + 1] = 1
    else
      local known = redis.call('GET', (ttl == '0' and DELETED or RESULT) .. id)
      reply[#reply + 1] = known and string.find(known, token, 1, true) and 1 or 0
    end
  end
  return next_group
end

local at = 2
while at <= #ARGV do at = close_alike(at) end

if #gone > 0 then redis.call('DEL', unpack(gone)) end
for queue, ended in pairs(ended_in) do redis.call('ZREM', queue, unpack(ended)) end
if following then tell_followers(ids, states, events) end
emit(events, ARGV[1])
return reply
