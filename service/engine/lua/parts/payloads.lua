-- What a job's payload tells, as it was written by our client or a stock one.

-- Our payloads begin with the function's name and the queue; those of a stock client with its try, or are pickles.
local function function_of(payload)
  if not payload then return '' end
  return string.match(payload, '^{"f":"([^"\\]*)"') or string.match(payload, '^{"t":%w+,"f":"([^"\\]*)"') or ''
end

local function find_queue(id, payload)
  local queue = payload and string.match(payload, '^{"f":"[^"\\]*","x":{"queue":"([^"\\]+)"')
  if queue and redis.call('ZSCORE', queue, id) then return queue end
  if redis.call('ZSCORE', DEFAULT_QUEUE, id) then return DEFAULT_QUEUE end
  for _, known in ipairs(redis.call('ZRANGE', QUEUES, 0, 255)) do
    if redis.call('ZSCORE', known, id) then return known end
  end
  return queue or DEFAULT_QUEUE
end

-- Whether a client asked to abort this job. What is older than the job was meant for an earlier one of its id, and is
-- forgotten; only JSON payloads, which end with their enqueue time, can tell.
local function abort_asked(id, payload)
  local asked = redis.call('ZSCORE', ABORT, id)
  local enqueued = asked and payload and string.match(payload, '"et": ?(%d+)}$')
  if not enqueued or tonumber(asked) >= tonumber(enqueued) then return asked end
  redis.call('ZREM', ABORT, id)
  return false
end

-- Hardly any job has a unique key, and to decode a payload takes longer than all the rest.
local function unique_of(payload)
  local parsed, job = nil, nil
  if string.find(payload, '"unique_key"', 1, true) then parsed, job = pcall(cjson.decode, payload) end
  local unique = parsed and type(job) == 'table' and type(job.x) == 'table' and job.x.unique_key
  return type(unique) == 'string' and unique or '' -- anybody may have written the payload
end
