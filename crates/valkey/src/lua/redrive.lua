-- ARGV: id.
enter()
local record = current_record()
if not record or not (record.state == 'd' or record.state == 'h') then
  return 0
end
record.attempts = 0
record.token = 0
wait(record, NOW)
return 1
