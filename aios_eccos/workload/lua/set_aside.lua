-- Keep messages that nobody could carry out.
-- KEYS  aside
-- ARGV  messages kept, seconds to keep them, then messages
for i = 3, #ARGV do
  redis.call('RPUSH', KEYS[1], ARGV[i])
end
redis.call('LTRIM', KEYS[1], -ARGV[1], -1)
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
