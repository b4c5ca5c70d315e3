-- What the scripts of a log on Redis share. KEYS[1] is the prefix of all keys; see log/redis.py for what they hold.
-- Numbers of microseconds are below 2^53 until the year 2255, which is as far as Lua counts.
local P = KEYS[1]
local META, FREE, CHANGES, KEYS_ALL, IDS = P .. 'meta', P .. 'free', P .. 'changes', P .. 'keys', P .. 'ids'

local function int(number) return string.format('%.0f', number) end

local function micros()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- A number that is greater than all before it: the first half of the ids of a run's events.
local function next_base()
  local base = math.max(micros(), tonumber(redis.call('HGET', META, 'base') or '0') + 1)
  redis.call('HSET', META, 'base', int(base))
  return base
end

-- When the log began, or Redis may have lost its end.
local function epoch_of()
  local epoch = redis.call('HGET', META, 'epoch')
  if not epoch then
    epoch = int(next_base())
    redis.call('HSET', META, 'epoch', epoch)
  end
  return tonumber(epoch)
end

local function load(trace)
  local flat, run = redis.call('HGETALL', P .. 'run:' .. trace), {}
  if #flat == 0 then return nil end
  for i = 1, #flat, 2 do run[flat[i]] = flat[i + 1] end
  return run
end

local function num(run, field) return tonumber(run[field] or '0') end

-- As RunState.running.
local function running(run)
  return math.max(0, num(run, 'c:started') + num(run, 'c:again') - num(run, 'c:completed') - num(run, 'c:failed'))
end

-- As RunState.over_at: seconds since 1970, or nil.
local function over_at(run, linger)
  local runs = num(run, 'c:runs')
  if runs > 0 then
    if num(run, 'c:over') < runs then return nil end
    return num(run, 'completed') + (running(run) > 0 and linger or 0)
  end
  if num(run, 'c:roots') > 0 then return num(run, 'touched') + linger end
  return nil
end
