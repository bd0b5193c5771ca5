-- How many there are, without a scan: what ends at about the same time is counted in one field of the partition's hash, and
-- the field is left out once that time has come. A field covers at most a 32nd of the time that its ids live.
local function field(kind, from, ends)
  if ends >= FOREVER then
    return kind
  end
  local _, exponent = math.frexp(math.max(ends - from, 64))
  local width = math.ldexp(1, exponent - 6)
  return kind .. int(math.ceil(ends / width) * width)
end

local function end_of(name, kind)
  local time = string.match(name, '^' .. kind .. '(%d*)$')
  return time and (time == '' and FOREVER or tonumber(time))
end

local function count(kind, from, ends, change)
  local name = field(kind, from, ends)
  if redis.call('HINCRBY', KEYS[1], name, change) ~= change or name == kind then
    return
  end
  -- A new field: as many have gone as have come.
  for _, other in ipairs(redis.call('HKEYS', KEYS[1])) do
    if (end_of(other, 'c') or end_of(other, 'r') or FOREVER) <= NOW then
      redis.call('HDEL', KEYS[1], other)
    end
  end
end
