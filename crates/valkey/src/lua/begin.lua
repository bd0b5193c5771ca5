-- ARGV: id, call, worker, fingerprint or '', lease, what the end of a lease does, most attempts, ttl of the dead.
local call, worker, print, lease = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local at_lease_end, attempts_max, dead_ttl = ARGV[8], tonumber(ARGV[9]), ARGV[10]

-- The partition's last token and one, or the microseconds of the clock: tokens grow also when a record is gone, and when the
-- server has lost the last one. From the year 2112 on they are only counted, since a double ends soon after that.
local function next_token(record)
  local last = redis.call('HGET', KEYS[1], 't')
  last = last and number(last, 't') or 0
  if record then
    last = math.max(last, record.token)
  end
  local token = math.max(last + 1, math.min(NOW * 1000 + TIME[2] % 1000, 4503599627370496))
  redis.call('HSET', KEYS[1], 't', int(token))
  return int(token)
end

local function start(record)
  local attempt = (record and record.attempts or 0) + 1
  local token = next_token(record)
  local fields = {'s', 'r', 'u', int(deadline(lease)), 'n', int(attempt), 'k', token, 'w', worker, 'c', call}
  local function set(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if record then
    set('h', record.history)
  else
    set('b', int(NOW))
    count('r', NOW, FOREVER, 1)
  end
  if print ~= '' and not (record and record.print) then
    set('p', print)
  end
  redis.call('HSET', KEYS[4], unpack(fields))
  return {'started', token, int(attempt)}
end

enter()
local record = current_record()
if not record then
  return start(nil)
end
if record.state == 'r' and record.due > NOW and record.call == call then
  return {'started', int(record.token), int(record.attempts)}
end
if print ~= '' and record.print and record.print ~= print then
  return answer('mismatch')
end
if record.state == 'h' then
  return answer('held')
elseif record.state == 'c' then
  return answer('completed')
elseif record.state == 'd' then
  return answer('dead')
elseif record.state == 'w' then
  if record.due > NOW then
    return answer('retry')
  end
elseif record.due > NOW then
  return answer('progress')
else
  note(record, LEASE_ENDED, 'its lease ended before it said how it went')
  if at_lease_end == 'hold' then
    hold(record)
    return answer('held')
  elseif at_lease_end == 'fail' then
    bury(record, 'l', dead_ttl)
    return answer('dead')
  end
end
if record.attempts >= attempts_max then
  bury(record, 'a', dead_ttl)
  return answer('dead')
end
return start(record)
