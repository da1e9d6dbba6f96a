-- Note that a key is in use; a key that was revoked meanwhile stays gone.
-- KEYS: the key
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'used', int(clock())) end
