-- A worker's code still declares this schedule.
-- KEYS: schedules, due    ARGV: id
-- Returns 1, or 0 when there is none of that id.
local key = SCHEDULE .. ARGV[1]
if redis.call('EXISTS', key) == 0 then return 0 end
redis.call('HSET', key, 'seen', int(clock()))
return 1
