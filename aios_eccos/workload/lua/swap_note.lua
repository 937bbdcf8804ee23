-- Set a note and return what stood there before.
-- KEYS  note
-- ARGV  value, seconds to keep it (0 = for good)
local before = redis.call('GET', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1])
if tonumber(ARGV[2]) > 0 then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return before
