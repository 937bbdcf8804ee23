-- Heartbeat of one kernel: prolong (or put back) what it holds, drop what it no longer holds.
-- KEYS  kernels, then for each slot: leases, limits
-- ARGV  ttl_ms, kernel, channel, number of slots, declared limit of each slot ('' = none),
--       number of leases held, then for each of those and then for each one to drop:
--       1-based index of its slot, call id
-- Returns the number of known kernels, and how many of them have a lesser name.
local now, ttl, kernel, slots = now_ms(), tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[4])
register(KEYS[1], kernel, now, ttl)
for i = 1, slots do
  redis.call('ZREMRANGEBYSCORE', KEYS[2 * i], '-inf', now)
  if ARGV[4 + i] ~= '' then
    declare(KEYS[2 * i + 1], KEYS[1], kernel, ARGV[4 + i], ttl)
  end
end

local first = 6 + slots
local drop = first + 2 * tonumber(ARGV[5 + slots])
for a = first, drop - 1, 2 do
  redis.call('ZADD', KEYS[2 * tonumber(ARGV[a])], now + ttl, ARGV[a + 1])
end
local freed = 0
for a = drop, #ARGV, 2 do
  freed = freed + redis.call('ZREM', KEYS[2 * tonumber(ARGV[a])], ARGV[a + 1])
end
for i = 1, slots do
  keep(KEYS[2 * i], ttl)
end
if freed > 0 then
  redis.call('PUBLISH', ARGV[3], kernel)
end
local known, lesser = redis.call('ZRANGE', KEYS[1], 0, -1), 0
for _, other in ipairs(known) do
  if other < kernel then
    lesser = lesser + 1
  end
end
return { #known, lesser }
