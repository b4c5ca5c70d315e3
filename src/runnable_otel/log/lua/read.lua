-- What lies after a position of a run. ARGV: trace; `oldest`, `now`, `at`, or `bad` where it is no position; its
-- segment, sequence and known; the limit; the linger.
-- Returns the position after it all, the gap (reason, position, how many are lost or -1), 1 if the run is over,
-- the seconds until it will be (or an empty text), and ids and texts, one after the other.
local trace, kind, segment, sequence, known = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local limit, linger = tonumber(ARGV[6]), tonumber(ARGV[7])
local epoch, run = epoch_of(), load(ARGV[1])

local function position(first, number, told)
  local text = first .. '-' .. int(number)
  return told > number and text .. '~' .. int(told) or text
end

if not run then
  local start = int(epoch) .. '-0'
  if kind == 'at' and segment == int(epoch) and sequence == 0 then return {start, '', '', 0, 0, '', {}} end
  -- Where Redis lost the run, it may come again; otherwise it was over, and was dropped.
  local lost = kind == 'at' and tonumber(segment) < epoch
  return {start, 'unknown', start, -1, lost and 0 or 1, '', {}}
end

-- A segment is what was written between two moments at which Redis may have lost its end: its first half of the ids,
-- and how many events there were before it.
local segments, befores = {}, {}
for first, before in string.gmatch(run.segments, '(%d+):(%d+)') do
  segments[#segments + 1], befores[#befores + 1] = first, tonumber(before)
end
local head, trimmed = num(run, 'head'), num(run, 'trimmed')
local over = over_at(run, linger)
local settled = over and over < epoch / 1000000 - 60 -- it was over long before Redis lost anything
if epoch > tonumber(segments[#segments]) and not settled then
  segments[#segments + 1], befores[#befores + 1] = int(epoch), head
end
local function last_of(index) return befores[index + 1] or head end

local at, gap, gap_position, lost = nil, '', '', -1
if kind == 'oldest' then
  at, sequence, known = 1, 0, trimmed
elseif kind == 'now' then
  at, sequence, known = #segments, head, 0
elseif kind == 'at' then
  for index, first in ipairs(segments) do
    -- Beyond the end of a segment that is not the last: given out, and lost.
    if first == segment and sequence >= befores[index] and (index < #segments or sequence <= head) then at = index end
  end
  if known > head then known = 0 end
end
if not at then
  at, sequence, known = 1, 0, trimmed
  gap, gap_position = 'unknown', position(segments[1], 0, known)
elseif at < #segments and sequence >= last_of(at) then
  sequence, at = last_of(at), at + 1
  while at < #segments and sequence >= last_of(at) do at = at + 1 end
  gap, gap_position = 'unknown', position(segments[at], sequence, known)
end

local start = math.max(sequence, known)
if start < trimmed then
  local missing = trimmed - start
  if missing > 20000 then
    lost, missing = -1, -1 -- too many to count while others wait
  else
    for _, entry in ipairs(redis.call('XRANGE', P .. 'events:' .. trace, '(' .. segments[at] .. '-' .. int(start), '+', 'COUNT', missing)) do
      if tonumber(string.match(entry[1], '%-(%d+)$')) > trimmed then break end
      missing = missing - 1
    end
    lost = missing
  end
  if missing ~= 0 then
    known = trimmed
    if gap == '' then gap, gap_position = 'trimmed', position(segments[at], sequence, known) else lost = -1 end
  end
end

local function events()
  local after, to = '(' .. segments[at] .. '-' .. int(sequence), segments[at] .. '-18446744073709551615'
  return redis.call('XRANGE', P .. 'events:' .. trace, after, to, 'COUNT', limit)
end
local found, entries = events(), {}
while #found == 0 and at < #segments do -- what was left of this segment has been dropped: no entries mean no more
  sequence, at = last_of(at), at + 1
  gap, gap_position, lost = 'unknown', position(segments[at], sequence, known), -1
  found = events()
end
for _, entry in ipairs(found) do
  entries[#entries + 1] = entry[1]
  entries[#entries + 1] = entry[2][2]
end
local last = last_of(at)
if #found > 0 and #found == limit then last = tonumber(string.match(found[#found][1], '%-(%d+)$')) end
local now = micros() / 1000000
local complete = at == #segments and last == head
local ended, rest = over and over <= now and complete, over and over > now and string.format('%.6f', over - now) or ''
return {position(segments[at], last, known), gap, gap_position, lost, ended and 1 or 0, rest, entries}
