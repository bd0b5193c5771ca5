-- ARGV: id, result, ttl.
enter()
local record = current_record()
if not record or record.state ~= 'h' then
  return 0
end
complete(record, ARGV[4], '0', ARGV[5])
return 1
