-- Set a note for good if it still is what the caller knows; 1 if that was so, else 0.
-- KEYS  note
-- ARGV  value, known value (left out = there must be none)
if redis.call('GET', KEYS[1]) ~= (ARGV[2] or false) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1])
return 1
