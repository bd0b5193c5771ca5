-- Every script begins with this. KEYS[1] is the hash of the partition; ARGV[1] is the time of a test's clock, and otherwise '0';
-- ARGV[2] is '1' where the answer has to rest on what replicas have. Times are milliseconds since the epoch. Every number is
-- below 2^53, where doubles are exact, and int() writes it without an exponent.
local LAYOUT = '1'
local FOREVER = 281474976710655 -- 2^48 - 1
local EXACT = 9007199254740992 -- 2^53
local TIME = redis.call('TIME')
local NOW = TIME[1] * 1000 + math.floor(TIME[2] / 1000)
-- How far the clock by which keys end is behind the one that counts. Keys of a test stay until it is over.
local BEHIND = 0
if ARGV[1] ~= '0' then
  local real = NOW
  NOW = tonumber(ARGV[1])
  BEHIND = NOW - real - 3600000
end

local function int(number)
  return string.format('%.0f', number)
end

local function fail(code, text)
  error({err = code .. ' ' .. text})
end

local function number(text, name)
  local value = text and string.find(text, '^%d+$') and tonumber(text)
  if not value or value >= EXACT then
    fail('FSDAMAGED', 'its field ' .. name .. ' is no number')
  end
  return value
end

-- The time after so many milliseconds; '' is for ever. A distant time is a time all the same.
local function deadline(ms)
  if ms == '' then
    return FOREVER
  end
  return math.min(NOW + tonumber(ms), FOREVER - 1)
end

-- When a key is to be removed.
local function removal(ends)
  return int(ends - BEHIND)
end

local function check_layout()
  local layout = redis.call('HGET', KEYS[1], 'v')
  if layout and layout ~= LAYOUT then
    fail('FSLAYOUT', layout)
  end
  return layout
end

-- For scripts that write. WAIT counts what its own connection has written, so an answer that rests on the writes of others
-- needs one of its own.
local function enter()
  if not check_layout() then
    redis.call('HSET', KEYS[1], 'v', LAYOUT)
  end
  if ARGV[2] == '1' then
    redis.call('HINCRBY', KEYS[1], 'w', 1)
  end
end
