-- ARGV: id, token, how, result, whether it is a failure, ttl or delay, reason, most attempts, ttl of the dead.
local how, result, is_failure, time, reason = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local attempts_max, dead_ttl = tonumber(ARGV[10]), ARGV[11]
enter()
local record = current_record()
local refused = refusal(record, ARGV[4])
if refused then
  return refused
end
if record.state ~= 'r' and how ~= 'completed' then
  -- The end of its lease has given the record to an operator. Only that the work was done changes that.
  return answer('fenced')
end
if how == 'completed' then
  note(record, COMPLETED, '')
  complete(record, result, is_failure, time)
elseif how == 'failed' then
  note(record, FAILED, reason)
  if record.attempts >= attempts_max then
    bury(record, 'a', dead_ttl)
  else
    wait(record, deadline(time))
  end
elseif how == 'final' then
  note(record, FINAL, reason)
  bury(record, 'f', dead_ttl)
elseif how == 'held' then
  note(record, HELD, reason)
  hold(record)
else
  note(record, RELEASED, '')
  record.attempts = math.max(record.attempts - 1, 0)
  wait(record, NOW)
end
return {'done'}
