-- ARGV: where to begin ('-', or '(' and an id), how many at least. Answers 1 if these are the last, and the ids.
local limit = tonumber(ARGV[4])
check_layout()
prune(1000)
local found, from = {}, ARGV[3]
while true do
  local page = redis.call('ZRANGEBYLEX', KEYS[2], from, '+', 'LIMIT', 0, limit)
  for _, id in ipairs(page) do
    local ends = redis.call('ZSCORE', KEYS[3], id)
    if not ends or tonumber(ends) > NOW then
      found[#found + 1] = id
    end
  end
  if #page < limit then
    return {1, found}
  elseif #found >= limit then
    return {0, found}
  end
  from = '(' .. page[#page]
end
