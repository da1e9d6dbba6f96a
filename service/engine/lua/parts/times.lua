-- Redis's clock, numbers as text, and places in a queue.

-- A number as text, made once: in Lua that takes longer than most commands, and many jobs of a call share their times.
local texts = {}
local function int(number)
  local text = texts[number] or string.format('%.0f', number)
  if number == number then texts[number] = text end
  return text
end

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A job's place in its queue: due time, moved ahead by its priority. Its fraction tells what costs a look elsewhere:
-- .25 = the job has notes, .5 = this is the end of a lease. ARQ reads scores as whole numbers.
local function place(due, priority, noted) return int(due - priority * PRIORITY_STEP) .. (noted and '.25' or '') end
local function lease_end(now, lease) return int(now + lease) .. '.5' end
local function is_lease_end(score) return score and string.find(score, '.5', 1, true) ~= nil end
local function is_noted(score) return score and string.find(score, '.', 1, true) ~= nil end

-- Whether a job waits for others; its place is then beyond all times.
local function is_held(score) return score and tonumber(score) >= HELD end

-- When a job is due: '' now | '+ms' after a delay | '@ms' at a time.
local function due_at(when, now)
  if when == '' then return now end
  local value = tonumber(string.sub(when, 2))
  return string.sub(when, 1, 1) == '+' and now + value or value
end
