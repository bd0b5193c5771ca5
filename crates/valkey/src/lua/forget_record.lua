-- ARGV: id. A record that cannot be read is removed, too: who forgets it has seen that.
enter()
local is_read, record = pcall(stored_record)
unlist(ID)
local removed = redis.call('DEL', KEYS[4])
if not is_read then
  return 1
end
if record then
  count('r', record.begun, record.ends, -1)
end
return record and record.ends > NOW and removed or 0
