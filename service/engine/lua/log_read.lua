-- What a job has logged, or the next part of it.
-- ARGV: id, number of the line after which to begin (0 = none), how many at most
-- Returns {how many lines were ever logged, number of the line before the first of these, lines as JSON}.
local id, after = ARGV[1], tonumber(ARGV[2])
local lines = tonumber(redis.call('HGET', NOTES .. id, 'log_lines') or 0)
local before = math.max(after, lines - redis.call('LLEN', LOGS .. id))
local from = before - lines + redis.call('LLEN', LOGS .. id)
return {lines, before, redis.call('LRANGE', LOGS .. id, from, from + tonumber(ARGV[3]) - 1)}
