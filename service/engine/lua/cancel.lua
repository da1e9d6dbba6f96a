-- Cancel a job: at once when it waits; when it runs, ask its worker.
-- ARGV: events kept, id, reason, ttl ms of the record
-- Returns cancelled | asked | finished | missing.
local events = {}
local answer = cancel_job(ARGV[2], ARGV[3], ARGV[4], clock(), events)
emit(events, ARGV[1])
return answer
