-- The records of finished jobs, for one that runs after them.
-- ARGV: ids, up to 500    Returns a record per job, or false.
local names = {}
for i, id in ipairs(ARGV) do names[i] = RESULT .. id end
return redis.call('MGET', unpack(names))
