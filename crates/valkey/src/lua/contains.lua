-- KEYS[2]: the claim. Answers 1 or 0.
check_layout()
local stored = redis.call('GET', KEYS[2])
if not stored then
  return 0
end
if #stored ~= 28 then
  fail('FSDAMAGED', 'a claim has ' .. #stored .. ' bytes')
end
local _, last = struct.unpack('>I6I6', stored)
return last > NOW and 1 or 0
