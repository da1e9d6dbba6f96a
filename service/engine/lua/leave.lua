-- Take a worker that ends off the list. The last one out takes ARQ's health check along: `arq --check` need not wait.
-- KEYS: what ARQ's health check reads    ARGV: events kept, worker id, s after which a silent worker counts no more
-- Returns 1 when it was on the list, else 0.
local id, now = ARGV[2], clock()
redis.call('DEL', WORKER .. id)
local was_there = redis.call('ZREM', WORKERS, id)
if #KEYS > 0 and redis.call('ZCOUNT', WORKERS, now / 1000 - tonumber(ARGV[3]), '+inf') == 0 then
  for _, key in ipairs(KEYS) do
    if not is_stock_health(redis.call('GET', key)) then redis.call('DEL', key) end
  end
end
if was_there == 1 then emit({worker_event('worker.offline', now, id)}, ARGV[1]) end
return was_there
