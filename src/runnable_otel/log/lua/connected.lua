-- A connection is there. ARGV: the server's run_id, which is new after each start; 1 if it syncs each write to disk.
-- A new server may have lost the end of what the one before it had: then no position of before is the end any more.
local known = redis.call('HMGET', META, 'server', 'safe')
if known[1] and known[1] ~= ARGV[1] and not (known[2] == '1' and ARGV[2] == '1') then
  redis.call('HSET', META, 'epoch', int(next_base()))
end
epoch_of()
if known[1] ~= ARGV[1] or known[2] ~= ARGV[2] then redis.call('HSET', META, 'server', ARGV[1], 'safe', ARGV[2]) end
return redis.call('HGET', META, 'version') or (redis.call('HSET', META, 'version', '1') and '1')
