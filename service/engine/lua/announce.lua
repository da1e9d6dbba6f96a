-- Say that a worker lives, and which others are lost: silent for longer than what they said of themselves is kept.
-- KEYS: what ARQ's health check reads    ARGV: events kept, worker id, what it says of itself as JSON, ttl s of that,
--   when it started or '', ARQ's summary, then the queues that it serves
-- Returns when it started, in ms.
local id, about, ttl, now = ARGV[2], ARGV[3], tonumber(ARGV[4]), clock()
local started = ARGV[5] == '' and int(now) or ARGV[5]
local events = {}

local function is_draining(said) return said and string.find(said, '"draining":true', 1, true) ~= nil end

local before = redis.call('GET', WORKER .. id)
if not before then events[1] = worker_event('worker.online', now, id) end
if is_draining(about) and not is_draining(before) then
  events[#events + 1] = worker_event('worker.draining', now, id)
end
local times = ',"started":' .. started .. ',"seen":' .. int(now) .. '}'
redis.call('SET', WORKER .. id, string.sub(about, 1, -2) .. times, 'EX', ttl)
redis.call('ZADD', WORKERS, now / 1000, id)
for _, key in ipairs(KEYS) do
  if not is_stock_health(redis.call('GET', key)) then redis.call('SET', key, ARGV[6], 'EX', ttl) end
end
local lease = 1000 * (ttl + 1)
if lease >= tonumber(redis.call('GET', LONGEST_LEASE) or 0) then
  redis.call('SET', LONGEST_LEASE, int(lease), 'PX', int(3 * lease))
end
for i = 7, #ARGV do redis.call('ZADD', QUEUES, now, ARGV[i]) end -- stock clients do not: their workers tell of them

local function takes_on(said) return said.claiming and not said.draining end

-- For each queue `act` gets what is noted of it for those who ask why a job waits: that jobs are taken on, and of which
-- functions; or, as '!', that its workers take none on now.
local function each_served(said, act)
  for _, queue in ipairs(said.queues) do
    if not takes_on(said) then act(queue .. '|!') else
      act(queue .. '|')
      for _, fn in ipairs(said.functions) do act(queue .. '|' .. fn) end
    end
  end
end

local function note_served(said, from)
  local till = int(from + 1000 * ttl)
  each_served(said, function(served) redis.call('ZADD', SERVING, 'GT', till, served) end)
end

-- What it has just stopped to take on, only the others do from now on.
local said, last = cjson.decode(about), before and cjson.decode(before)
if last and takes_on(last) and not takes_on(said) then
  each_served(last, function(served) redis.call('ZREM', SERVING, served) end)
  for _, other in ipairs(redis.call('ZREVRANGE', WORKERS, 0, 199)) do
    local about_other = other ~= id and redis.call('GET', WORKER .. other)
    if about_other then
      local said_by_other = cjson.decode(about_other)
      note_served(said_by_other, said_by_other.seen)
    end
  end
end
note_served(said, now)
redis.call('ZREMRANGEBYSCORE', SERVING, '-inf', now)
redis.call('EXPIRE', SERVING, math.max(ttl, 3600))

-- Taken from the list, a lost worker is told of by one of the others, once.
for _, other in ipairs(redis.call('ZRANGEBYSCORE', WORKERS, '-inf', now / 1000 - ttl, 'LIMIT', 0, 100)) do
  if redis.call('EXISTS', WORKER .. other) == 0 then
    redis.call('ZREM', WORKERS, other)
    events[#events + 1] = worker_event('worker.lost', now, other)
  end
end
emit(events, ARGV[1])
return tonumber(started)
