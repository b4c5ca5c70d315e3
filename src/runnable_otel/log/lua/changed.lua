-- The runs that changed after a change. ARGV: the epoch and the number of the change, or `oldest` or `now`; the limit.
-- Returns the epoch, the number after it all, 1 if the position was none, and trace, change and state of each run.
local epoch, head = int(epoch_of()), tonumber(redis.call('HGET', META, 'change') or '0')
local after, limit, bad = 0, tonumber(ARGV[3]), 0
if ARGV[1] == 'now' then
  after = head
elseif ARGV[1] ~= 'oldest' then
  after = tonumber(ARGV[2])
  if ARGV[1] ~= epoch or after > head then after, bad = 0, 1 end
end
local found, runs = {}, {}
if limit > 0 then
  found = redis.call('ZRANGEBYSCORE', CHANGES, '(' .. int(after), '+inf', 'WITHSCORES', 'LIMIT', 0, limit)
end
for i = 1, #found, 2 do
  runs[#runs + 1] = {found[i], found[i + 1], redis.call('HGETALL', P .. 'run:' .. found[i])}
end
local last = head
if #runs == limit and limit > 0 then last = tonumber(found[#found]) end
return {epoch, int(last), bad, runs}
