-- KEYS[2]: the claim. Answers 1 or 0. What is no claim is removed, too: who forgets it has seen that it cannot be read.
enter()
local stored = redis.pcall('GET', KEYS[2])
if not stored then
  return 0
end
redis.call('DEL', KEYS[2])
if type(stored) ~= 'string' or #stored ~= 28 then
  return 1
end
local first, last = struct.unpack('>I6I6', stored)
if last <= NOW then
  return 0
end
count('c', first, last, -1)
return 1
