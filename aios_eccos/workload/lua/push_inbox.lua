-- Append messages to the inbox.
-- KEYS  inbox
-- ARGV  messages
for i = 1, #ARGV do
  redis.call('RPUSH', KEYS[1], ARGV[i])
end
return #ARGV
