-- Let a slot rest for a while; the longer of two waits holds. Tells all kernels.
-- KEYS  cooling, and if its server has asked for that, closed
-- ARGV  milliseconds, 0 = end it; channel, what to say there
local wait = tonumber(ARGV[1])
for i = 1, #KEYS do
  if wait <= 0 then
    redis.call('DEL', KEYS[i])
  elseif redis.call('PTTL', KEYS[i]) < wait then
    redis.call('SET', KEYS[i], '1', 'PX', wait)
  end
end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1
