-- Add an entry to a capped stream.
-- KEYS  stream
-- ARGV  about how many entries to keep, then names and values
-- Returns the entry's id.
return redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, 2))
