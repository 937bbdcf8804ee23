-- Heartbeat of one kernel: prolong (or put back) what it holds, drop what it no longer holds.
-- KEYS  as common.lua says
-- ARGV  as common.lua says (limit -1 = nothing is said of the slot, -2 = nothing is declared of it any
--       longer), leases being those held;
--       channel, then for each lease to drop: 1-based index of its slot, call id
-- Returns the number of known kernels, how many of them have a lesser name, and 0 where Redis should
-- have known this one and did not, or has lost a slot's leases or limits: then nothing is done.
local asked = cjson.decode(ARGV[1])
local now, ttl, kernel, slots = now_ms(), asked.ttl, asked.kernel, #asked.limits
local ends, living, lost = end_of(KEYS[1], kernel), living_of(KEYS[1], now), forgotten(KEYS[1], now, ttl)
local before = redis.call('ZCOUNT', KEYS[1], now + 1, '+inf') + lost
if asked.known and ends <= now or ends == 0 and lost > 0 or has_lost(asked, living, now, ARGV[2]) then
  return { before, 0, 0 } -- it has to hear that, and to stop lending from here, before it is one again
end
register(KEYS[1], kernel, now, ttl)
local rated = {}
for i = 1, slots do
  local key = 6 * i - 3
  redis.call('ZREMRANGEBYSCORE', KEYS[key + 1], '-inf', now)
  if asked.limits[i][1] ~= -1 then
    for j = 1, 3 do
      declare(KEYS[key + 1 + j], living, kernel, asked.limits[i][j], ttl, true)
    end
  end
  rated[i] = redis.call('EXISTS', KEYS[key + 3], KEYS[key + 4]) > 0
end

local charged = {}
for n, slot in ipairs(asked.slots) do
  redis.call('ZADD', KEYS[6 * slot - 2], now + ttl, asked.calls[n])
  local need = asked.needs and asked.needs[n]
  if need and (rated[slot] or #asked.sets[asked.set[n]] > 0) then
    if not redis.call('ZSCORE', KEYS[2], need) and not redis.call('ZSCORE', KEYS[3], need) then
      charged[#charged + 1] = n
    end
  end
end
charge(asked, charged, rated, now)
local freed = 0
for a = 3, #ARGV, 2 do
  freed = freed + redis.call('ZREM', KEYS[6 * tonumber(ARGV[a]) - 2], ARGV[a + 1])
end
for i = 1, slots do
  keep(KEYS[6 * i - 2], ttl)
end
if freed > 0 then
  redis.call('PUBLISH', ARGV[2], kernel)
end
local known, lesser = redis.call('ZRANGEBYSCORE', KEYS[1], '(0', '+inf'), 0
for _, other in ipairs(known) do
  if other < kernel then
    lesser = lesser + 1
  end
end
return { #known, lesser, 1 }
