-- Drop the messages that were taken, unless these are of a later batch already.
-- KEYS  taken, number of the next batch
-- ARGV  number of the batch
if tonumber(redis.call('GET', KEYS[2]) or 0) == tonumber(ARGV[1]) then
  redis.call('DEL', KEYS[1])
  redis.call('INCR', KEYS[2])
end
return 1
