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

local function group_at(at)
  local token, head = ARGV[at], ARGV[at + 1]
  local queue, ttl, unique, noted = read_once(ARGV[at + 2])
  ended_in[queue] = ended_in[queue] or {}
  return {
    token = token, state = string.match(head, '^{"type":"job%.(%a+)"') or '', queue = queue, ttl = ttl, unique = unique,
    noted = noted, ended = ended_in[queue], told = all_of(head),
    counted = string.sub(token, -4) ~= '|1|0', -- of a first attempt that is still its owner's, nobody has written a count
  }
end

-- What is the same for each job is collected and done once: a call from Lua costs more than what it does.
local function close(id, lease, record, group, counted)
  keep_record(id, record, group.ttl, group.unique, group.noted, group.token)
  local n, ended, told = #gone, group.ended, group.told
  gone[n + 1], gone[n + 2] = PAYLOAD .. id, lease
  if counted then gone[n + 3] = COUNT .. id end
  ended[#ended + 1], told[#told + 1] = id, id
  if following then
    ids[#ids + 1], states[#states + 1] = id, group.state
    gone[#gone + 1] = WAITS .. id -- of one that a stock client has aborted while it waited for others
  end
  if aborting then redis.call('ZREM', ABORT, id) end
end

-- Those of one group. Returns where the next one begins.
local function close_group(at)
  local group, first, leases = group_at(at), at + 4, {}
  local next_group = first + 2 * ARGV[at + 3]
  for i = first, next_group - 1, 2 do leases[#leases + 1] = LEASE .. ARGV[i] end
  local token, owners = group.token, redis.call('MGET', unpack(leases))
  for n = 1, #leases do
    local id, record, recorded = ARGV[first + 2 * n - 2], ARGV[first + 2 * n - 1], 1
    if owners[n] == token then close(id, leases[n], record, group, group.counted)
    elseif owns(id, token, group.queue) then close(id, leases[n], record, group, true)
    else
      local known = redis.call('GET', (group.ttl == '0' and DELETED or RESULT) .. id)
      recorded = known and string.find(known, token, 1, true) and 1 or 0
    end
    reply[#reply + 1] = recorded
  end
  return next_group
end

local at = 2
while at <= #ARGV do at = close_group(at) end

if #gone > 0 then redis.call('DEL', unpack(gone)) end
for queue, ended in pairs(ended_in) do
  if #ended > 0 then redis.call('ZREM', queue, unpack(ended)) end
end
if following then tell_followers(ids, states, events) end
emit(events, ARGV[1])
return reply
