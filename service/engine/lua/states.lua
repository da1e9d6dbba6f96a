-- The states of many jobs, without what they carry.
-- ARGV: ids, up to 100
-- Returns one word per job: a state, or '' when nothing is kept of it. Fewer words than jobs, but one at least, when
-- there was too much to read.
local MOST_READ = 2 * 1024 * 1024
local now, states, total = clock(), {}, 0

-- Whether it should have started by now: whoever looks at it ends it (expire.lua). A payload ends with its enqueue time.
local function is_too_late(id, payload)
  local within = tonumber(string.match(payload, '^{"f":"[^"\\]*","x":{[^{}]-"expires_in":([%d.e+-]+)'))
  local enqueued = within and string.match(redis.call('GETRANGE', PAYLOAD .. id, -32, -1), '"et": ?(%d+)}$')
  return enqueued and tonumber(enqueued) + 1000 * within < now
end

local function unfinished(id, payload)
  local score = redis.call('ZSCORE', find_queue(id, payload), id)
  if redis.call('EXISTS', LEASE .. id) == 1 then return 'running' end
  if not is_lease_end(score) and is_too_late(id, payload) then return 'expired' end
  local phase = is_noted(score) and redis.call('HGET', NOTES .. id, 'phase')
  if phase == 'retrying' and not is_lease_end(score) then return 'retrying' end
  if phase == 'unserved' or phase == 'busy' then return 'queued' end
  return score and math.floor(tonumber(score)) > now and 'scheduled' or 'queued'
end

for i, id in ipairs(ARGV) do
  local state, read = state_in_record(id)
  local payload = not state and redis.call('GETRANGE', PAYLOAD .. id, 0, 511)
  states[i] = state or payload ~= '' and unfinished(id, payload) or ''
  total = total + read
  if total > MOST_READ then break end
end
return states
