-- Make a key. From the first one on, the mark says that callers need one.
-- KEYS: keys, the key, the mark    ARGV: id, what it is (JSON), digest of its token, ms that it lives or ''
-- Returns {when it was made, when it expires or ''}.
local now = clock()
local expires = ARGV[4] ~= '' and int(now + ARGV[4]) or ''
redis.call('HSET', KEYS[2], 'about', ARGV[2], 'digest', ARGV[3], 'created', int(now), 'expires', expires)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('SET', KEYS[3], int(now), 'NX')
return {now, expires}
