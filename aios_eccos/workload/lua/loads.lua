-- How busy slots are; changes nothing.
-- KEYS  kernels, then for each slot: leases, limits, rpm, tpm, recent, cooling, closed
-- ARGV  kernel that Redis has known before ('' = none), then for each slot: own limit, rpm and tpm
--       (-1 = none)
-- Returns the number of known kernels (-1 = that one is forgotten), then for each slot: slots in
-- use; limit, rpm and tpm that hold (-1 = none); requests and tokens of the last minute, ms until the
-- first come back; ms left to cool, ms left that it is closed.
local now = now_ms()
local living = living_of(KEYS[1], now)
local answer = { redis.call('ZCOUNT', KEYS[1], now + 1, '+inf') }
if ARGV[1] ~= '' and not living(ARGV[1]) then
  answer[1] = -1
end
for i = 1, (#ARGV - 1) / 3 do
  local key, own, row = 7 * i - 5, {}, {}
  for j = 1, 3 do
    own[j] = tonumber(ARGV[3 * i - 2 + j])
  end
  row[1] = redis.call('ZCOUNT', KEYS[key], now + 1, '(+inf')
  row[2] = smallest_limit(KEYS[key + 1], living, '', own[1])
  row[3], row[4], row[5], row[6], row[7], row[8], row[9] = own[2], own[3], 0, 0, 0, 0, 0
  -- Most slots have none of these.
  if redis.call('EXISTS', KEYS[key + 2], KEYS[key + 3], KEYS[key + 5], KEYS[key + 6]) > 0 then
    row[3] = smallest_limit(KEYS[key + 2], living, '', own[2])
    row[4] = smallest_limit(KEYS[key + 3], living, '', own[3])
    row[8] = math.max(0, redis.call('PTTL', KEYS[key + 5]))
    row[9] = math.max(0, redis.call('PTTL', KEYS[key + 6]))
  end
  if row[3] >= 0 or row[4] >= 0 then
    row[5], row[6] = of_minute(KEYS[key + 4], now, false)
    row[7] = opens_ms(KEYS[key + 4], now)
  end
  for j = 1, 9 do
    answer[#answer + 1] = row[j]
  end
end
return answer
