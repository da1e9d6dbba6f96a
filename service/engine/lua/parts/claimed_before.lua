-- Of a claim whose reply was lost: what it took is given out once more.
local at = now

-- When a job was due is not known any more: its place says when it was claimed.
local function repeat_queue(ids, index)
  local kept, scores, payloads, pasts = {}, {}, {}, {}
  for _, id in ipairs(ids) do
    local token = redis.call('GET', LEASE .. id) or ''
    local attempt, lost = string.match(token, '|' .. int(at) .. '|(%d+)|(%d+)$')
    if attempt and string.sub(token, 1, #worker) == worker then
      local n = #kept + 1
      kept[n], scores[n] = id, redis.call('EXISTS', WAITS .. id) == 1 and '1' or int(at)
      payloads[n] = redis.call('GET', PAYLOAD .. id)
      pasts[n] = past_of(tonumber(attempt), tonumber(lost), redis.call('EXISTS', NOTES .. id) == 1)
    end
  end
  answer(index, kept, as_json(kept), scores, payloads, pasts)
end

local function repeat_last(last)
  at = last[1]
  local index_of, n = {}, 2 -- their order may be another one now
  for index = 3, #KEYS do index_of[KEYS[index]] = index - 3 end
  while last[n] do
    local queue, ids = last[n], {}
    n = n + 1
    while type(last[n]) == 'table' do
      for _, id in ipairs(last[n]) do ids[#ids + 1] = id end
      n = n + 1
    end
    repeat_queue(ids, index_of[queue])
  end
end
