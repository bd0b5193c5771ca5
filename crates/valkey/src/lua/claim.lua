-- KEYS[2...]: the claims. ARGV: ttl, call. Answers for each twice the time of the claim, and one more if it is the caller's;
-- or -1 if what is there is no claim.
--
-- A claim is the time of the claim, its end (six bytes each) and the 16 bytes of the call.
local ttl, call = ARGV[3], ARGV[4]
local ends = deadline(ttl)
local fresh = struct.pack('>I6I6', NOW, ends) .. call
local answers, added = {}, 0
enter()
for i = 2, #KEYS do
  local stored = redis.pcall('GET', KEYS[i])
  local first, last = NOW, 0
  if stored and (type(stored) ~= 'string' or #stored ~= 28) then
    answers[i - 1] = -1
  else
    if stored then
      first, last = struct.unpack('>I6I6', stored)
    end
    if last > NOW then
      answers[i - 1] = first * 2 + (string.sub(stored, 13) == call and 1 or 0)
    else
      if ends < FOREVER then
        redis.call('SET', KEYS[i], fresh, 'PXAT', removal(ends))
      else
        redis.call('SET', KEYS[i], fresh)
      end
      answers[i - 1] = NOW * 2 + 1
      added = added + 1
    end
  end
end
if added > 0 then
  count('c', NOW, ends, added)
end
return answers
