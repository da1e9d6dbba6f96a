-- Shared by the scripts that create jobs: whether who asks may meet the job that holds a unique key. It answers for
-- theirs, is named in a refusal or gives way, so their allow-lists must hold its function and its queue.

-- Whether a pattern, with * and ?, is the whole name. Only the last star is tried again, so a pattern of stars alone
-- cannot keep Redis busy.
local function fits(pattern, name)
  local p, n, star, tried = 1, 1, nil, nil
  while n <= #name do
    local sign = string.sub(pattern, p, p)
    if sign == '*' then star, tried, p = p, n, p + 1
    elseif sign == '?' or sign == string.sub(name, n, n) then p, n = p + 1, n + 1
    elseif star then p, tried, n = star + 1, tried + 1, tried + 1
    else return false end
  end
  return string.find(pattern, '^%**$', p) ~= nil
end

local function one_fits(patterns, name)
  for _, pattern in ipairs(patterns) do
    if fits(pattern, name) then return true end
  end
  return #patterns == 0
end

-- Function and queue of a job that is there, or was; '' for what nothing tells any more.
local function touched_by(id)
  local payload = redis.call('GET', PAYLOAD .. id)
  if payload then return function_of(payload), find_queue(id, payload) end
  local record = redis.call('GET', RESULT .. id)
  local parsed, stored = pcall(cjson.decode, record or '')
  return function_of(record), parsed and type(stored) == 'table' and stored.q or ''
end
