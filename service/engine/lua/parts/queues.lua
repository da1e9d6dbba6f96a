-- Queues: what they are called, who is told that something is due in one, and who says that one is served.

-- Whether a stock worker has written ARQ's health check, with the time first: it does so once an hour, and nobody else
-- may shorten or delete it.
local function is_stock_health(said) return said and string.sub(said, 1, 11) ~= 'j_complete=' end

local function queue_label(queue) return queue == DEFAULT_QUEUE and 'default' or queue end

-- 0 = now: a worker whose clock is a little behind ours must not wait for what is due already.
local function wake(queue, due, now) redis.call('PUBLISH', WAKE .. ':' .. queue, int(due <= now and 0 or due)) end
