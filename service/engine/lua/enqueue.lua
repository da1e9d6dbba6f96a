-- Create jobs. One call may carry many, each decided on its own; repeating a call after a lost reply changes nothing.
-- ARGV: events kept, ttl of cancelled jobs, then the jobs (see judging.lua)
-- Returns {now, then per job: code, id}
local answers = judge_all(3)
write_all(3, answers, ARGV[2])
emit(events, ARGV[1])
table.insert(answers, 1, now)
return answers
