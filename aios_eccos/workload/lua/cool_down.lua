-- Refuse a slot for a while; the longer of two waits holds.
-- KEYS  cooling
-- ARGV  milliseconds, 0 = end it
local wait = tonumber(ARGV[1])
if wait <= 0 then
  return redis.call('DEL', KEYS[1])
end
if redis.call('PTTL', KEYS[1]) < wait then
  redis.call('SET', KEYS[1], '1', 'PX', wait)
end
return 1
