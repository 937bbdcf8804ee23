-- Give slots back, and tell the other kernels of those that a call may wait for: of full models, and
-- where requests, tokens or money come back with them.
-- KEYS  for each slot: leases, limits
-- ARGV  channel, kernel, 1 where more than slots comes back, then for each lease: 1-based index of its
--       slot, call id
-- Returns the number of slots that came back.
local freed, wanted = 0, ARGV[3] == '1'
for a = 4, #ARGV, 2 do
  local key = 2 * tonumber(ARGV[a]) - 1
  local limit = redis.call('ZRANGE', KEYS[key + 1], 0, 0, 'WITHSCORES')[2]
  wanted = wanted or redis.call('ZCARD', KEYS[key]) > tonumber(limit or 0) -- one is no lease
  freed = freed + redis.call('ZREM', KEYS[key], ARGV[a + 1])
end
if freed > 0 and wanted then
  redis.call('PUBLISH', ARGV[1], ARGV[2])
end
return freed
