-- Forget a key.
-- KEYS: keys, the key    ARGV: id
-- Returns 1, or 0 when there is no such key.
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('DEL', KEYS[2])
