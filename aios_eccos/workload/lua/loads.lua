-- How busy slots are; changes nothing.
-- KEYS  kernels, then for each slot: leases, limits, cooling
-- ARGV  own limit of each slot
-- Returns the number of known kernels, then for each slot: slots in use, limit, ms left to cool.
local now = now_ms()
local answer = { redis.call('ZCOUNT', KEYS[1], now + 1, '+inf') }
for i = 1, #ARGV do
  local leases, limits, cooling = KEYS[3 * i - 1], KEYS[3 * i], KEYS[3 * i + 1]
  answer[#answer + 1] = redis.call('ZCOUNT', leases, now + 1, '+inf')
  answer[#answer + 1] = smallest_limit(limits, KEYS[1], tonumber(ARGV[i]), now)
  answer[#answer + 1] = math.max(0, redis.call('PTTL', cooling))
end
return answer
