-- A kernel goes: its slots come back and its limits no longer hold.
-- KEYS  kernels, then for each slot: leases, limits, rpm, tpm
-- ARGV  kernel, channel, then for each lease: 1-based index of its slot, call id
-- Returns the number of slots that came back.
redis.call('ZREM', KEYS[1], ARGV[1])
for i = 2, #KEYS, 4 do
  redis.call('ZREM', KEYS[i + 1], ARGV[1])
  redis.call('ZREM', KEYS[i + 2], ARGV[1])
  redis.call('ZREM', KEYS[i + 3], ARGV[1])
end
local freed = 0
for a = 3, #ARGV, 2 do
  freed = freed + redis.call('ZREM', KEYS[4 * tonumber(ARGV[a]) - 2], ARGV[a + 1])
end
if freed > 0 then
  redis.call('PUBLISH', ARGV[2], ARGV[1])
end
return freed
