-- Create jobs of a batch: a part of them, each decided on its own, or all of them or none. What came of a part is kept
-- with the batch, so that a repeated call is answered like the first and a batch that was cut off can be completed; and
-- so is which functions and queues it is about, as fields f:<function> and q:<queue>.
-- KEYS: record of the batch, record of its Idempotency-Key or ''
-- ARGV: events kept, ttl of the batch and of cancelled jobs, batch id, size, mode, place of the part's first job,
--   fingerprint, ttl of the key's record, what was refused before it came here: "[index,code,id],…", then the jobs
--   (see judging.lua), whose ids end with their index in five hex digits
-- Returns {when the batch was made or 0, word, text}: done | refused (all or none: none) with [[index,code,id],…] of
--   those not created, known with the id of the batch that the key made, purged when nothing else is known of that,
--   mismatch
local batch, part = ARGV[3], ARGV[6]
if KEYS[2] ~= '' then
  local before = redis.call('HMGET', KEYS[2], 'job', 'fingerprint')
  if before[1] and before[2] ~= ARGV[7] then return {0, 'mismatch', ''} end
  if before[1] and before[1] ~= batch then return {0, 'known', before[1]} end
  if before[1] and redis.call('EXISTS', KEYS[1]) == 0 then return {0, 'purged', ''} end
end
local function created_at() return tonumber(redis.call('HGET', KEYS[1], 'created_at')) end
local kept = redis.call('HGET', KEYS[1], part)
if kept then return {created_at(), 'done', kept} end

local answers, others = judge_all(10), {}
local refused = ARGV[9] ~= ''
if refused then others[1] = ARGV[9] end
for n = 1, #answers, 2 do
  local code = answers[n]
  if code ~= 'created' then
    local index = tonumber(string.sub(ARGV[10 + (n - 1) / 2 * 5], -5), 16)
    others[#others + 1] = '[' .. index .. ',"' .. code .. '",' .. quoted(answers[n + 1]) .. ']'
    refused = refused or string.sub(code, 1, 7) ~= 'created' and string.sub(code, 1, 6) ~= 'exists'
  end
end
local text = '[' .. table.concat(others, ',') .. ']'
if refused and ARGV[5] == 'atomic' then return {0, 'refused', text} end

write_all(10, answers, ARGV[2])
local about = {}
for i = 10, #ARGV, 5 do
  about['f:' .. function_of(ARGV[i + 2])], about['q:' .. queue_label(ARGV[i + 1])] = true, true
end
for name in pairs(about) do redis.call('HSET', KEYS[1], name, '') end
redis.call('HSETNX', KEYS[1], 'created_at', now_text)
redis.call('HSET', KEYS[1], 'size', ARGV[4], 'mode', ARGV[5], part, text)

-- Kept for as long as its key is, and its jobs are expected to be.
local latest = now
for i = 10, #ARGV, 5 do latest = math.max(latest, due_at(ARGV[i + 3], now)) end
local kept_for = math.max(tonumber(ARGV[8]), latest - now + tonumber(ARGV[2]), redis.call('PTTL', KEYS[1]))
redis.call('PEXPIRE', KEYS[1], int(kept_for))
if KEYS[2] ~= '' then
  redis.call('HSET', KEYS[2], 'job', batch, 'fingerprint', ARGV[7])
  redis.call('PEXPIRE', KEYS[2], ARGV[8])
end
emit(events, ARGV[1])
return {created_at(), 'done', text}
