-- Go on with followers that a call has left to tell, and look for jobs that ended without telling any: those of stock
-- workers, which know of none.
-- KEYS: when somebody last looked    ARGV: events kept, cursor ('0' for the first part of a look, '' = do not look),
--   ms for which nobody else needs to look
-- Returns {next cursor ('' = the look is over), 1 when followers are left to tell}.
local events, ids, states = {}, {}, {}

local known = redis.call('HSCAN', ENDED, 0, 'COUNT', 100)[2]
for i = 1, #known, 2 do ids[#ids + 1], states[#states + 1] = known[i], known[i + 1] end

local cursor = ARGV[2]
if cursor == '0' and not redis.call('SET', KEYS[1], 1, 'NX', 'PX', ARGV[3]) then cursor = '' end
if cursor ~= '' then
  local seen = redis.call('SSCAN', FOLLOWED, cursor, 'COUNT', 500)
  for _, id in ipairs(seen[2]) do
    local state = redis.call('HEXISTS', ENDED, id) == 0 and ending_of(id)
    if state then ids[#ids + 1], states[#states + 1] = id, state end
  end
  cursor = seen[1] == '0' and '' or seen[1]
end

if #ids > 0 then go_through(ids, states, events) end
emit(events, ARGV[1])
return {cursor, redis.call('EXISTS', ENDED)}
