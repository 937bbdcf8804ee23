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
if ARGV[1] ~= '' and not living[ARGV[1]] then
  answer[1] = -1
end
for i = 1, (#ARGV - 1) / 3 do
  local key = 7 * i - 5
  answer[#answer + 1] = redis.call('ZCOUNT', KEYS[key], now + 1, '+inf')
  for j = 0, 2 do
    local own = tonumber(ARGV[3 * i - 1 + j])
    answer[#answer + 1] = smallest_limit(KEYS[key + 1 + j], living, '', own)
  end
  local rated = answer[#answer] >= 0 or answer[#answer - 1] >= 0
  local asked, told, opens = 0, 0, 0
  if rated then
    asked, told = of_minute(KEYS[key + 4], now, false)
    opens = opens_ms(KEYS[key + 4], now)
  end
  answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = asked, told, opens
  answer[#answer + 1] = math.max(0, redis.call('PTTL', KEYS[key + 5]))
  answer[#answer + 1] = math.max(0, redis.call('PTTL', KEYS[key + 6]))
end
return answer
