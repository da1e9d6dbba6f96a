-- Of a claim: how one job is leased, and what its past makes of that.
local now, lease, worker = clock(), ARGV[2], ARGV[1]
local now_text, lease_until = int(now), lease_end(now, lease)
local aborting = redis.call('ZCARD', ABORT) > 0
local find = string.find

-- What its past says of a job: which attempt this is, how often it was lost, and so its token. Most have none.
local NEW = {attempt = 1, lost = 0, token = worker .. '|' .. now_text .. '|1|0'}
local function past_of(attempt, lost, noted, expired)
  local token = worker .. '|' .. now_text .. '|' .. attempt .. '|' .. lost
  return {attempt = attempt, lost = lost, token = token, noted = noted, expired = expired}
end

-- The past of a job that is not new, of which `counted` attempts were counted. Nil when somebody else holds it.
local function past_told(id, score, counted)
  local noted = is_noted(score)
  local expired = noted and is_lease_end(score)
  if (expired or aborting) and redis.call('EXISTS', LEASE .. id) == 1 then return nil end
  if expired then return past_of(counted or 1, note_loss(id, score), true, true) end
  if noted then return past_of((counted or 0) + 1, tonumber(redis.call('HGET', NOTES .. id, 'lost') or 0), true) end
  return counted and past_of(counted + 1, 0) or NEW
end

-- Lease one job. Returns its past, nil when somebody else holds it.
local function lease_job(id, score, count)
  local counted = count and tonumber(string.match(count, '^%d+$'))
  local past = NEW
  if counted or aborting or find(score, '.', 1, true) then past = past_told(id, score, counted) end
  if not past or not redis.call('SET', LEASE .. id, past.token, 'NX', 'PX', lease) then return nil end
  if counted and not past.expired then keep_count(id, past.attempt) end
  return past
end
