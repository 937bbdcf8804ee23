-- Give slots back, and tell the other kernels if any was really lent.
-- KEYS  leases of each slot
-- ARGV  channel, kernel, then for each lease: 1-based index of its slot, call id
-- Returns the number of slots that came back.
local freed = 0
for a = 3, #ARGV, 2 do
  freed = freed + redis.call('ZREM', KEYS[tonumber(ARGV[a])], ARGV[a + 1])
end
if freed > 0 then
  redis.call('PUBLISH', ARGV[1], ARGV[2])
end
return freed
