-- The ids of dead and held records: KEYS[2] in their order, KEYS[3] by the time at which they end, if they do.
local function unlist(id)
  redis.call('ZREM', KEYS[2], id)
  redis.call('ZREM', KEYS[3], id)
end

-- Removes some that have ended. Those that are left are skipped where they are read.
local function prune(limit)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', int(NOW), 'LIMIT', 0, limit)) do
    unlist(id)
  end
end

local function list(id, ends)
  redis.call('ZADD', KEYS[2], 0, id)
  if ends < FOREVER then
    redis.call('ZADD', KEYS[3], int(ends), id)
  else
    redis.call('ZREM', KEYS[3], id)
  end
  prune(2)
end
