-- Forget a schedule; its jobs stay.
-- KEYS: schedules, due    ARGV: id, expected version or '*', when its code was last seen or '' if that is all the same
-- Returns deleted | missing | changed.
local id = ARGV[1]
local version = redis.call('HGET', SCHEDULE .. id, 'version')
if not version then return 'missing' end
if ARGV[3] ~= '' and ARGV[3] ~= redis.call('HGET', SCHEDULE .. id, 'seen') then return 'changed' end
if ARGV[2] ~= '*' and ARGV[2] ~= version then return 'changed' end
redis.call('DEL', SCHEDULE .. id, FIRES .. id)
redis.call('ZREM', KEYS[1], id)
redis.call('ZREM', KEYS[2], id)
return 'deleted'
