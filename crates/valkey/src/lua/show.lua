-- ARGV: id.
check_layout()
local record = stored_record()
if not record or record.ends <= NOW then
  return {'none'}
end
return answer('found')
