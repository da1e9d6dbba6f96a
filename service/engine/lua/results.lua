-- The records of finished jobs, for one that runs after them.
-- ARGV: ids, up to 500
-- Returns a record per job, or false. Fewer than jobs, but one at least, when there was too much to read.
local MOST_READ = 4 * 1024 * 1024
local records, total = {}, 0
for i, id in ipairs(ARGV) do
  records[i] = redis.call('GET', RESULT .. id)
  total = total + #(records[i] or '')
  if total > MOST_READ then break end
end
return records
