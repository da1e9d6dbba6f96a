-- A tick of ARQ's cron_jobs: note it, unless the schedule is paused.
-- KEYS: schedules, due    ARGV: events kept, fires kept, id, tick, the tick after, job id, queue, function
-- Returns 1, or 0 when it is paused.
local id, tick, key, now = ARGV[3], ARGV[4], SCHEDULE .. ARGV[3], clock()
local paused = redis.call('HGET', key, 'paused')
if not paused then return 1 end
local last = redis.call('LINDEX', FIRES .. id, 0)
if last and string.find(last, '"due":' .. tick .. ',', 1, true) then return paused == '1' and 0 or 1 end -- asked again
local why = paused == '1' and 'paused' or nil
local outcome = why and '"skipped","reason":"paused"' or '"fired","job_id":' .. quoted(ARGV[6])
redis.call('LPUSH', FIRES .. id, '{"due":' .. tick .. ',"at":' .. int(now) .. ',"outcome":' .. outcome .. '}')
redis.call('LTRIM', FIRES .. id, 0, ARGV[2] - 1)
if not why then redis.call('HSET', key, 'tick', ARGV[5], 'last', ARGV[6]) end
local about = ',"schedule_id":' .. quoted(id) .. ',"due":' .. tick .. (why and ',"reason":"paused"' or '')
emit({event(why and 'schedule.skipped' or 'schedule.fired', now, why and '' or ARGV[6], ARGV[8], ARGV[7], about)}, ARGV[1])
return why and 0 or 1
