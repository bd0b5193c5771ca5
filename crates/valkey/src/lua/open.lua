-- KEYS[1]: the layout of all keys with this prefix. Answers 1 if it is new here.
local LAYOUT = '1'
local layout = redis.call('GET', KEYS[1])
if layout and layout ~= LAYOUT then
  return redis.error_reply('FSLAYOUT ' .. layout)
end
-- Six bytes of a time are written in one number of the machine's.
local large = 140737488355329
if struct.unpack('>I6', struct.pack('>I6', large)) ~= large then
  return redis.error_reply('FSNUMBERS')
end
if layout then
  return 0
end
redis.call('SET', KEYS[1], LAYOUT)
return 1
