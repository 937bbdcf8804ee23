-- Take slots for a batch of calls.
-- KEYS  kernels, then for each slot: leases, limits
-- ARGV  ttl_ms, kernel, number of slots, declared limit of each slot,
--       then for each lease: 1-based index of its slot, call id
-- Returns the number of known kernels, the limit that holds for each slot, then 1 or 0 for each
-- lease.
local now, ttl, kernel, slots = now_ms(), tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
register(KEYS[1], kernel, now, ttl)
local answer = { redis.call('ZCARD', KEYS[1]) }

-- How many more calls each slot takes. Further limits of an endpoint (requests or tokens per
-- minute) lower this number here, and are charged where a lease is granted below.
local room = {}
for i = 1, slots do
  local leases, limits = KEYS[2 * i], KEYS[2 * i + 1]
  redis.call('ZREMRANGEBYSCORE', leases, '-inf', now)
  declare(limits, KEYS[1], kernel, ARGV[3 + i], ttl)
  local limit = smallest_limit(limits, KEYS[1], tonumber(ARGV[3 + i]), now)
  answer[#answer + 1] = limit
  room[i] = limit - redis.call('ZCARD', leases)
end

for a = 4 + slots, #ARGV, 2 do
  local slot, call = tonumber(ARGV[a]), ARGV[a + 1]
  local leases = KEYS[2 * slot]
  if redis.call('ZSCORE', leases, call) then
    answer[#answer + 1] = 1
  elseif room[slot] > 0 then
    redis.call('ZADD', leases, now + ttl, call)
    room[slot] = room[slot] - 1
    answer[#answer + 1] = 1
  else
    answer[#answer + 1] = 0
  end
end
for i = 1, slots do
  keep(KEYS[2 * i], ttl)
end
return answer
