-- ARGV: id, token, lease.
enter()
local record = current_record()
local refused = refusal(record, ARGV[4])
if refused then
  return refused
end
if record.state ~= 'r' or record.due <= NOW then
  return {'lease'}
end
redis.call('HSET', KEYS[4], 'u', int(deadline(ARGV[5])))
return {'done'}
