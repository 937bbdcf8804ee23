-- Heartbeat of one kernel: prolong (or put back) what it holds, drop what it no longer holds.
-- KEYS  as in acquire.lua
-- ARGV  as in acquire.lua (limit '' = nothing is declared of the slot), but in place of the leases:
--       channel, number of leases held, these as in `lease_at`, then for each one to drop: 1-based
--       index of its slot, call id
-- Returns the number of known kernels, and how many of them have a lesser name.
local now, ttl, kernel = now_ms(), tonumber(ARGV[1]), ARGV[2]
local slots, caps = tonumber(ARGV[3]), tonumber(ARGV[4])
register(KEYS[1], kernel, now, ttl)
for i = 1, slots do
  local key, arg = 6 * i - 3, 2 + 3 * i
  redis.call('ZREMRANGEBYSCORE', KEYS[key + 1], '-inf', now)
  for j = 0, 2 do
    if ARGV[arg] ~= '' then
      declare(KEYS[key + 2 + j], KEYS[1], kernel, ARGV[arg + j], ttl)
    end
  end
end

local at = 5 + 3 * slots + 2 * caps
local channel, charges = ARGV[at], new_charges(slots, caps)
local left = tonumber(ARGV[at + 1])
at = at + 2
while left > 0 do
  local lease
  lease, at = lease_at(at)
  redis.call('ZADD', KEYS[6 * lease.slot - 2], now + ttl, lease.call)
  local rated = redis.call('EXISTS', KEYS[6 * lease.slot], KEYS[6 * lease.slot + 1]) > 0
  charge(charges, lease, now, rated)
  left = left - 1
end
write_charges(charges, now)
local freed = 0
for a = at, #ARGV, 2 do
  freed = freed + redis.call('ZREM', KEYS[6 * tonumber(ARGV[a]) - 2], ARGV[a + 1])
end
for i = 1, slots do
  keep(KEYS[6 * i - 2], ttl)
end
if freed > 0 then
  redis.call('PUBLISH', channel, kernel)
end
local known, lesser = redis.call('ZRANGE', KEYS[1], 0, -1), 0
for _, other in ipairs(known) do
  if other < kernel then
    lesser = lesser + 1
  end
end
return { #known, lesser }
