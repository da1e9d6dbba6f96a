-- Decide a tick, once: whoever comes second finds that the schedule has moved on.
-- KEYS: schedules, due
-- ARGV: events kept, fires kept, id, version, its next tick, the tick after or '', when to fire that,
--   overlap (skip | queue | allow | cancel_previous), ticks missed before the one to fire, that one,
--   ttl ms of the record of a job that is cancelled, then its job as in judging.lua, with id '' when all are missed
-- Returns fired | skipped | held (the job before is not done: due again in a second) | moved.
local id, following, overlap, missed, tick, job_id = ARGV[3], ARGV[6], ARGV[8], tonumber(ARGV[9]), ARGV[10], ARGV[12]
local key, queue, fn = SCHEDULE .. id, ARGV[13], function_of(ARGV[14])
local stored = redis.call('HMGET', key, 'version', 'tick', 'last')
if stored[1] ~= ARGV[4] or stored[2] ~= ARGV[5] then return 'moved' end

local busy = overlap ~= 'allow' and job_id ~= '' and stored[3] and redis.call('EXISTS', PAYLOAD .. stored[3]) == 1
if busy and overlap == 'queue' then
  redis.call('HSET', key, 'held', ARGV[5])
  redis.call('ZADD', KEYS[2], int(now + 1000), id)
  return 'held'
elseif busy and overlap == 'cancel_previous' then
  cancel_job(stored[3], 'schedule ' .. id .. ' has its next tick', ARGV[11], now, events)
  busy = false
end

local function note(job, why)
  local outcome = job and '"fired","job_id":' .. quoted(job) or '"skipped","reason":' .. cjson.encode(why)
  redis.call('LPUSH', FIRES .. id, '{"due":' .. tick .. ',"at":' .. int(now) .. ',"outcome":' .. outcome .. '}')
  local about = ',"schedule_id":"' .. id .. '","due":' .. tick .. (why and ',"reason":' .. cjson.encode(why) or '')
  events[#events + 1] = event(job and 'schedule.fired' or 'schedule.skipped', now, job or '', fn, queue, about)
end

if missed > 0 then note(nil, missed .. ' missed while no worker was up') end
if busy then
  note(nil, 'the job before is not done: ' .. stored[3])
elseif job_id ~= '' then
  note(job_id)
  write_all(12, judge_all(12), ARGV[11])
  redis.call('HSET', key, 'last', job_id)
end
redis.call('LTRIM', FIRES .. id, 0, ARGV[2] - 1)
redis.call('HSET', key, 'tick', following)
redis.call('HDEL', key, 'held')
if following == '' then redis.call('ZREM', KEYS[2], id) else redis.call('ZADD', KEYS[2], ARGV[7], id) end
emit(events, ARGV[1])
return (busy or job_id == '') and 'skipped' or 'fired'
