-- Create or change a schedule, if nobody else has changed it meanwhile.
-- KEYS: schedules, due    ARGV: id, expected version ('' = it must be new), source, spec, next tick or '', when to fire it,
--   when it was made, '1' when it is paused, '1' to keep the next tick that it has
-- Returns {put | exists | missing | changed, its version now}.
local id, expected, tick, fires_at = ARGV[1], ARGV[2], ARGV[5], ARGV[6]
local key, now = SCHEDULE .. id, clock()
local version = redis.call('HGET', key, 'version')
if expected == '' and version then return {'exists', tonumber(version)} end
if expected ~= '' and not version then return {'missing', 0} end
if expected ~= '' and version ~= expected then return {'changed', tonumber(version)} end
local following = (tonumber(version) or 0) + 1
local due = ARGV[9] == '1' and redis.call('ZSCORE', KEYS[2], id)
if due then tick, fires_at = redis.call('HGET', key, 'tick'), due end
redis.call('HSETNX', key, 'created', ARGV[7])
redis.call('HSET', key, 'version', following, 'source', ARGV[3], 'spec', ARGV[4], 'tick', tick, 'updated', int(now),
  'seen', int(now), 'paused', ARGV[8])
redis.call('ZADD', KEYS[1], 0, id)
if fires_at == '' then
  redis.call('ZREM', KEYS[2], id)
else
  redis.call('ZADD', KEYS[2], fires_at, id)
  redis.call('PUBLISH', CONTROL, 'schedules ' .. fires_at)
end
return {'put', following}
