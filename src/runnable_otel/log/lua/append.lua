-- Adds the events of one run, and what follows from them, or nothing.
-- ARGV: the limits; what the events say (RunState.see); then for each event a header, the run id that it says,
-- and its text. A header is the letter of what it counts as, its worth (0: expendable), and 16 bytes each of its uid and
-- of the other edge's.
-- Returns how many were new, how many the run had too many of, and 1 or 2 where it has no room: for runs, for bytes.
local limits, batch = cjson.decode(ARGV[1]), cjson.decode(ARGV[2])
local trace = batch.trace
local EVENTS, UIDS, SPARE = P .. 'events:' .. trace, P .. 'uids:' .. trace, P .. 'spare:' .. trace
local now, epoch = micros() / 1000000, epoch_of()
local size = tonumber(redis.call('HGET', META, 'size') or '0')
local runs = redis.call('ZCARD', CHANGES)

local function drop(other)
  local run = load(other)
  if run then
    size = size - num(run, 'size')
    for field in pairs(run) do
      if string.sub(field, 1, 2) == 'i:' then redis.call('ZREM', P .. 'id:' .. string.sub(field, 3), other) end
    end
    local id = string.sub(run['l:run_id'] or '', 29)
    if id ~= '' and redis.call('HGET', IDS, id) == other then redis.call('HDEL', IDS, id) end -- an older log's
    redis.call('ZREM', KEYS_ALL, run.key)
    redis.call('ZREM', KEYS_ALL .. ':' .. run.status, run.key)
  end
  redis.call('UNLINK', P .. 'run:' .. other, P .. 'events:' .. other, P .. 'uids:' .. other, P .. 'spare:' .. other)
  redis.call('ZREM', CHANGES, other)
  redis.call('ZREM', FREE, other)
  runs = runs - 1
  redis.call('PUBLISH', P .. 'wake', other)
end

-- Drops finished runs, the one that has been over for longest first, until there is some room.
local retained = false
local function retain()
  if retained then return end
  retained = true
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', FREE, '-inf', string.format('%.6f', now), 'LIMIT', 0, 100)) do
    if runs < limits.runs_after and size < limits.size_after then return end
    if other ~= trace then drop(other) end
  end
end

local function full()
  if runs >= limits.max_runs then return 1 end
  return size >= limits.max_size and 2 or 0
end

local run = load(trace)
if not run then
  if #ARGV == 2 then return {0, 0, 0} end -- a sign of life of a run that is not known
  if full() > 0 then retain() end
  if full() > 0 then
    redis.call('HSET', META, 'size', int(size))
    return {0, 0, full()}
  end
  local base = int(next_base())
  run = {segments = base .. ':0', segment = base, created = batch.now, ['l:lead'] = nil}
  runs = runs + 1
end

-- What the events say: the least, and the greatest, of what was said wins.
for name, text in pairs(batch.least) do
  local known = run['l:' .. name]
  if not known or text < known then run['l:' .. name] = text end
end
for name, text in pairs(batch.most) do
  local known = run['m:' .. name]
  if not known or text > known then run['m:' .. name] = text end
end
local services, some = run.services or '', select(2, string.gsub(run.services or '', '\n', ''))
for _, service in ipairs(batch.services) do
  if some < limits.services and not string.find('\n' .. services, '\n' .. service .. '\n', 1, true) then
    services, some = services .. service .. '\n', some + 1
  end
end
run.services = services

local counts = {}
local function count(name)
  if name ~= '' then counts[name] = (counts[name] or num(run, 'c:' .. name)) + 1 end
end
local head, trimmed = num(run, 'head'), num(run, 'trimmed')
local own, spares, spare_size = num(run, 'size'), num(run, 'spare'), num(run, 'spare_size')
local new, refused, reason, ids = 0, 0, 0, 0
for field in pairs(run) do
  if string.sub(field, 1, 2) == 'i:' then ids = ids + 1 end
end
counts.events = num(run, 'c:events')

local function room(worth)
  if size < limits.max_size then return true end
  retain()
  return size < limits.max_size + worth * limits.reserve
end

-- As run_ids.is_news, and what follows. What an older log says of a run id holds until a run of that id starts.
local function name(id, begins)
  local known = run['i:' .. id]
  if id == '' or (known and not begins) or (not known and ids >= limits.ids) then return end
  if not begins and redis.call('HEXISTS', IDS, id) == 1 then return end
  local number = redis.call('HINCRBY', META, 'named', 1)
  run['i:' .. id] = int(begins and number or -number)
  redis.call('ZADD', P .. 'id:' .. id, run['i:' .. id], trace)
  if not known then ids = ids + 1 end
end

local function add(letter, spare, digest, other, id_said, text)
  if new == 0 and epoch > tonumber(run.segment) then -- the first since Redis may have lost the run's last ones
    run.segment = int(epoch)
    run.segments = run.segments .. ',' .. run.segment .. ':' .. int(head)
  end
  head, new = head + 1, new + 1
  local id, long = run.segment .. '-' .. int(head), #text + #digest
  if digest ~= '' then redis.call('HSET', UIDS, digest, id) end
  redis.call('XADD', EVENTS, id, 't', text)
  own, size = own + long, size + long
  if spare then
    redis.call('RPUSH', SPARE, id .. ' ' .. #text)
    spares, spare_size = spares + 1, spare_size + #text
  end
  local code = limits.counts[letter]
  count('events')
  count(code[1])
  if code[2] ~= '' and not (other ~= '' and redis.call('HEXISTS', UIDS, other) == 1) then count(code[2]) end
  if letter == limits.over then run.completed = string.format('%.6f', now) end
  name(id_said, letter == limits.begins)
end

for i = 3, #ARGV, 3 do
  local header, id, text = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local worth, digest = tonumber(string.sub(header, 2, 2)), string.sub(header, 3, 18)
  local spare = worth == 0
  if digest == '' or redis.call('HEXISTS', UIDS, digest) == 0 then
    if not room(worth) then
      reason = 2
    elseif spare and counts.events >= limits.max_events then
      refused = refused + 1
    else
      add(string.sub(header, 1, 1), spare, digest, string.sub(header, 19, 34), id, text)
    end
  end
end

if #ARGV > 2 and new == 0 and refused == 0 then -- nothing has changed, but for what was dropped to make room
  if retained then redis.call('HSET', META, 'size', int(size)) end
  return {0, 0, reason}
end

-- Drop the oldest expendable events, many at a time.
if spares > limits.max_spare + math.floor(limits.max_spare / 8)
  or spare_size > limits.max_spare_size + math.floor(limits.max_spare_size / 8) then
  while spares > limits.max_spare or spare_size > limits.max_spare_size do
    local id, sequence, long = string.match(redis.call('LPOP', SPARE), '^(%d+%-(%d+)) (%d+)$')
    redis.call('XDEL', EVENTS, id)
    trimmed, spares, spare_size = tonumber(sequence), spares - 1, spare_size - tonumber(long)
    own, size = own - tonumber(long), size - tonumber(long)
  end
end

if #ARGV == 2 or new > 0 then run.touched = string.format('%.6f', now) end
run.touched = run.touched or string.format('%.6f', now)
for name, number in pairs(counts) do run['c:' .. name] = int(number) end
if refused > 0 then
  run['c:refused'] = int(num(run, 'c:refused') + refused)
  redis.call('HINCRBY', META, 'refused', refused)
end
run.head, run.trimmed, run.size, run.spare, run.spare_size = int(head), int(trimmed), int(own), int(spares), int(spare_size)

-- As RunState.status.
local status, kind = 'running', run['m:kind'] or '0'
local all = num(run, 'c:runs')
if all > 0 then
  if num(run, 'c:over') >= all then status = limits.statuses[run['m:status'] or ''] or 'error' end
elseif kind == '0' and num(run, 'c:roots') > 0 then
  status = limits.statuses[run['m:trace_status'] or ''] or 'success'
end
local started = string.sub(run['l:lead'] or '', 2)
local key = (started ~= '' and started or run.created) .. '~' .. trace
if key ~= run.key or status ~= run.status then
  if run.key then
    redis.call('ZREM', KEYS_ALL, run.key)
    redis.call('ZREM', KEYS_ALL .. ':' .. run.status, run.key)
  end
  redis.call('ZADD', KEYS_ALL, 0, key)
  redis.call('ZADD', KEYS_ALL .. ':' .. status, 0, key)
  run.key, run.status = key, status
end

-- As RunState.free_at.
local free = over_at(run, limits.linger) or num(run, 'touched') + limits.abandoned
if all > 0 and num(run, 'c:over') >= all then free = num(run, 'completed') end
redis.call('ZADD', FREE, string.format('%.6f', free), trace)
redis.call('ZADD', CHANGES, redis.call('HINCRBY', META, 'change', 1), trace)
local flat = {}
for field, value in pairs(run) do
  flat[#flat + 1] = field
  flat[#flat + 1] = value
end
redis.call('HSET', P .. 'run:' .. trace, unpack(flat))
redis.call('HSET', META, 'size', int(size))
redis.call('PUBLISH', P .. 'wake', new > 0 and trace or '') -- without one: only summaries have changed
return {new, refused, reason}
