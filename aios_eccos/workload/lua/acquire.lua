-- Take slots for a batch of calls, and with each a request, tokens and money.
-- KEYS, ARGV  as common.lua says
-- Returns the number of known kernels; for each slot the limit, rpm and tpm that hold (-1 = none)
-- and the requests and tokens of the last minute; for each cap what is gone of it; then 1 or 0 for
-- each lease.
local asked = cjson.decode(ARGV[1])
local now, ttl, kernel, slots = now_ms(), asked.ttl, asked.kernel, #asked.limits
register(KEYS[1], kernel, now, ttl)
local answer = { redis.call('ZCARD', KEYS[1]) }

-- What each slot and each cap still gives.
local calls, requests, tokens, money, rated = {}, {}, {}, {}, {}
for i = 1, slots do
  local key, held = 6 * i - 3, {}
  redis.call('ZREMRANGEBYSCORE', KEYS[key + 1], '-inf', now)
  for j = 1, 3 do
    local own = asked.limits[i][j]
    declare(KEYS[key + 1 + j], KEYS[1], kernel, own, ttl)
    held[j] = smallest_limit(KEYS[key + 1 + j], KEYS[1], own, now)
    answer[#answer + 1] = held[j]
  end
  rated[i] = held[2] >= 0 or held[3] >= 0
  local of_now, told = 0, 0
  if rated[i] then
    of_now, told = of_minute(KEYS[key + 5], now, true)
  end
  answer[#answer + 1], answer[#answer + 2] = of_now, told
  calls[i] = held[1] - redis.call('ZCARD', KEYS[key + 1])
  requests[i] = held[2] < 0 and math.huge or held[2] - of_now
  tokens[i] = held[3] < 0 and math.huge or held[3] - told
  if redis.call('EXISTS', KEYS[key + 6]) == 1 then
    calls[i] = 0
  end
end
for i = 1, #asked.caps do
  local gone = gone_of(KEYS[3 + 6 * slots + i])
  answer[#answer + 1] = gone
  money[i] = asked.caps[i][1] - gone
end

-- Take (1) or give back (-1) what a lease needs; whether there was enough.
local function take(lease, sign)
  local i = lease[1]
  calls[i], requests[i] = calls[i] - sign, requests[i] - sign
  local enough = calls[i] >= 0 and requests[i] >= 0
  if not lease[3] then
    return enough
  end
  if lease[4] > 0 then
    tokens[i] = tokens[i] - sign * lease[4]
    enough = enough and tokens[i] >= 0
  end
  if lease[5] > 0 then
    for _, cap in ipairs(asked.sets[lease[6]]) do
      money[cap] = money[cap] - sign * lease[5]
      enough = enough and money[cap] >= 0
    end
  end
  return enough
end

local leases, charged, first = asked.leases, {}, 1
local expiry = string.format('%d', now + ttl) -- once, as that takes its time
while first <= #leases do
  -- Leases of one call that stand together are granted together.
  local call, last, held, stale, enough = leases[first][2], first, {}, {}, true
  while leases[last + 1] and leases[last + 1][2] == call do
    last = last + 1
  end
  local seen = {}
  for n = first, last do
    local slot, id = leases[n][1], leases[n][3]
    held[n] = seen[slot] or redis.call('ZSCORE', KEYS[6 * slot - 2], call)
    seen[slot] = true
    if held[n] and id and not redis.call('ZSCORE', KEYS[2], id) then
      -- A heartbeat put its slot back while another request of the call gave that up.
      calls[slot] = calls[slot] + 1
      held[n], stale[n] = false, true
    end
    if not held[n] then
      enough = take(leases[n], 1) and enough
    end
  end
  for n = first, last do
    local lease = leases[n]
    if not held[n] and enough then
      redis.call('ZADD', KEYS[6 * lease[1] - 2], expiry, call)
      if lease[3] and (rated[lease[1]] or #asked.sets[lease[6]] > 0) then
        charged[#charged + 1] = lease
      end
    elseif not held[n] then
      take(lease, -1)
      if stale[n] then -- it still stands there
        calls[lease[1]] = calls[lease[1]] - 1
      end
    end
    answer[#answer + 1] = (held[n] or enough) and 1 or 0
  end
  first = last + 1
end
charge(asked, charged, rated, now)
for i = 1, slots do
  keep(KEYS[6 * i - 2], ttl)
end
return answer
