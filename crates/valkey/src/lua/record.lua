-- KEYS[4]: the record of an id, ARGV[3]. A hash: s state (r running, w waiting, h held, c completed, d dead), u until, e end,
-- n attempts, k token, b first begun, w worker, p fingerprint, c call of the running attempt, x 1 if the result is a failure,
-- q cause of death (a attempts, f final, l lease ended), h ended attempts, r result.
local FIELDS = {'s', 'u', 'e', 'n', 'k', 'b', 'w', 'p', 'c', 'x', 'q', 'h'}
local FIELDS_AND_RESULT = {'s', 'u', 'e', 'n', 'k', 'b', 'w', 'p', 'c', 'x', 'q', 'h', 'r'}
local HISTORY_MAX = 8
local COMPLETED, FAILED, FINAL, HELD, LEASE_ENDED, RELEASED = 1, 2, 3, 4, 5, 6
local ID = ARGV[3]

-- The ended attempts, the oldest first. Each is stored as token (eight bytes), how it ended (one), and worker and reason,
-- either with its length (two bytes) before it.
local function attempts_of(history)
  local attempts, at = {}, 1
  while at <= #history do
    local is_read, token, how, _, _, after = pcall(struct.unpack, '>I8BI2c0I2c0', history, at)
    if not is_read then
      fail('FSDAMAGED', 'its attempts cannot be read')
    end
    attempts[#attempts + 1] = {token = token, how = how, bytes = string.sub(history, at, after - 1)}
    at = after
  end
  return attempts
end

-- The record as it is stored; nil if there is none.
local function stored_record()
  local v = redis.call('HMGET', KEYS[4], unpack(FIELDS))
  if not v[1] then
    if redis.call('EXISTS', KEYS[4]) == 1 then
      fail('FSDAMAGED', 'it has no state')
    end
    return nil
  end
  local record = {state = v[1], worker = v[7], print = v[8], call = v[9], history = v[12] or ''}
  record.ends = v[3] and number(v[3], 'e') or FOREVER
  record.attempts = number(v[4], 'n')
  record.token = number(v[5], 'k')
  record.begun = number(v[6], 'b')
  if record.state == 'r' or record.state == 'w' then
    record.due = number(v[2], 'u')
  elseif not string.find(record.state, '^[hcd]$') then
    fail('FSDAMAGED', 'its state is unknown')
  end
  if not record.worker then
    fail('FSDAMAGED', 'it has no worker')
  end
  return record
end

-- The record; nil if there is none, or it has ended, and then it is removed.
local function current_record()
  local record = stored_record()
  if record and record.ends <= NOW then
    redis.call('DEL', KEYS[4])
    unlist(ID)
    count('r', record.begun, record.ends, -1)
    return nil
  end
  return record
end

-- An answer with the record as it is now. The result of another input is nobody's business.
local function answer(what)
  local fields = what == 'mismatch' and FIELDS or FIELDS_AND_RESULT
  return {what, int(NOW), redis.call('HMGET', KEYS[4], unpack(fields))}
end

-- Notes how the last attempt has ended. What it says itself replaces what others had noted of it.
local function note(record, how, reason)
  local attempts = attempts_of(record.history)
  if #attempts > 0 and attempts[#attempts].token == record.token then
    table.remove(attempts)
  end
  local worker = record.worker
  local bytes = struct.pack('>I8BI2c0I2c0', record.token, how, #worker, worker, #reason, reason)
  attempts[#attempts + 1] = {bytes = bytes}
  if #attempts > HISTORY_MAX then
    table.remove(attempts, 1)
  end
  local all = {}
  for i, attempt in ipairs(attempts) do
    all[i] = attempt.bytes
  end
  record.history = table.concat(all)
end

-- Why an attempt has no say any more; nil if it has.
local function refusal(record, token)
  if not record then
    return {'fenced'}
  end
  if token == '0' or int(record.token) ~= token then
    return answer('fenced')
  end
  if record.state == 'r' then
    return nil
  end
  local attempts = attempts_of(record.history)
  local last = attempts[#attempts]
  local is_told = last and int(last.token) == token and last.how ~= LEASE_ENDED
  if record.state == 'c' then
    -- Otherwise an operator has completed it.
    local is_own = is_told and last.how == COMPLETED
    return answer(is_own and 'over' or 'fenced')
  end
  -- What is untold has ended with its lease, and nobody has begun since.
  return is_told and answer('over') or nil
end

local function set_end(record, ends)
  if ends < FOREVER then
    redis.call('HSET', KEYS[4], 'e', int(ends))
    redis.call('PEXPIREAT', KEYS[4], removal(ends))
  elseif record.ends < FOREVER then
    redis.call('HDEL', KEYS[4], 'e')
    redis.call('PERSIST', KEYS[4])
  end
  if ends ~= record.ends then
    count('r', record.begun, record.ends, -1)
    count('r', record.begun, ends, 1)
  end
end

-- What a record becomes. Each leaves nothing of the state before.

local function wait(record, due)
  redis.call('HSET', KEYS[4], 's', 'w', 'u', int(due), 'n', int(record.attempts), 'k', int(record.token),
    'h', record.history)
  redis.call('HDEL', KEYS[4], 'c', 'q')
  unlist(ID)
  set_end(record, FOREVER)
end

local function hold(record)
  redis.call('HSET', KEYS[4], 's', 'h', 'h', record.history)
  redis.call('HDEL', KEYS[4], 'u', 'c', 'q')
  list(ID, FOREVER)
  set_end(record, FOREVER)
end

local function bury(record, cause, ttl)
  local ends = deadline(ttl)
  redis.call('HSET', KEYS[4], 's', 'd', 'q', cause, 'h', record.history)
  redis.call('HDEL', KEYS[4], 'u', 'c')
  list(ID, ends)
  set_end(record, ends)
end

local function complete(record, result, is_failure, ttl)
  redis.call('HSET', KEYS[4], 's', 'c', 'r', result, 'x', is_failure, 'h', record.history)
  redis.call('HDEL', KEYS[4], 'u', 'c', 'q')
  unlist(ID)
  set_end(record, deadline(ttl))
end
