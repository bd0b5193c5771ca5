-- Answers how many claims, records, and dead and held records there are.
check_layout()
local function sum(kind)
  local all, fields = 0, redis.call('HGETALL', KEYS[1])
  for i = 1, #fields, 2 do
    local ends = end_of(fields[i], kind)
    if ends and ends > NOW then
      all = all + tonumber(fields[i + 1])
    end
  end
  return math.max(all, 0)
end
local ended = redis.call('ZCOUNT', KEYS[3], '-inf', int(NOW))
return {sum('c'), sum('r'), redis.call('ZCARD', KEYS[2]) - ended}
