-- Move records to the taken list and return it; what was taken and not dropped comes first.
-- KEYS  inbox, taken
-- ARGV  most records
if redis.call('EXISTS', KEYS[2]) == 0 then
  local records = redis.call('LRANGE', KEYS[1], 0, ARGV[1] - 1)
  for i = 1, #records do
    redis.call('RPUSH', KEYS[2], records[i])
  end
  redis.call('LTRIM', KEYS[1], #records, -1)
end
return redis.call('LRANGE', KEYS[2], 0, -1)
