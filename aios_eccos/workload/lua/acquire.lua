-- Take slots for a batch of calls, and with each a request, tokens and money.
-- KEYS, ARGV  as common.lua says; channel
-- Returns the number of known kernels; for each slot those in use, the limit, rpm and tpm that hold
-- (-1 = none), and the requests and tokens of the last minute; for each cap what is gone of it, all
-- these with what is granted; then 1 or 0 for each lease. Instead -1: Redis has forgotten the kernel,
-- or lost a slot's leases or limits: the kernel has to tell it first what it holds. Then the number of
-- kernels that it knew.
local asked = cjson.decode(ARGV[1])
local now, ttl, kernel, slots = now_ms(), asked.ttl, asked.kernel, #asked.limits
local ends, living = end_of(KEYS[1], kernel), living_of(KEYS[1], now)
local lost = forgotten(KEYS[1], now, ttl)
local known = redis.call('ZCOUNT', KEYS[1], now + 1, '+inf') + lost
if asked.known and ends <= now or ends == 0 and lost > 0 or has_lost(asked, living, now, ARGV[2]) then
  return { -1, known }
end
if ends < now + ttl / 2 then -- else its heartbeat has just said so
  register(KEYS[1], kernel, now, ttl)
end

-- What each slot and each cap still gives.
local held, calls, requests, tokens, money, rated = {}, {}, {}, {}, {}, {}
for i = 1, slots do
  local key, own = 6 * i - 3, asked.limits[i]
  local limits = { 0, own[2], own[3] }
  redis.call('ZREMRANGEBYSCORE', KEYS[key + 1], '-inf', now)
  -- Most slots have neither rates nor a server that has asked to be left alone.
  local more = redis.call('EXISTS', KEYS[key + 3], KEYS[key + 4], KEYS[key + 6]) > 0
  for j = 1, (more or own[2] >= 0 or own[3] >= 0) and 3 or 1 do
    limits[j] = declare(KEYS[key + 1 + j], living, kernel, own[j], ttl)
  end
  held[i], rated[i] = limits, limits[2] >= 0 or limits[3] >= 0
  calls[i] = limits[1] - (redis.call('ZCARD', KEYS[key + 1]) - 1)
  requests[i], tokens[i] = limits[2], limits[3]
  if more and redis.call('EXISTS', KEYS[key + 6]) == 1 then
    calls[i] = -math.huge
  end
  if rated[i] then
    local of_now, told = of_minute(KEYS[key + 5], now, true)
    requests[i], tokens[i] = requests[i] - of_now, tokens[i] - told
  end
end
for i = 1, #asked.caps do
  money[i] = asked.caps[i][1] - gone_of(KEYS[3 + 6 * slots + i])
end

-- Take (1) or give back (-1) what lease n needs; whether there was enough.
local wanted, needs, sets = asked.slots, asked.needs or {}, asked.sets
local function take(n, sign)
  local i = wanted[n]
  calls[i], requests[i] = calls[i] - sign, requests[i] - sign
  local enough = calls[i] >= 0 and (requests[i] >= 0 or held[i][2] < 0)
  if not needs[n] then
    return enough
  end
  local told, nano = asked.tokens[n], asked.nano[n]
  if told > 0 then
    tokens[i] = tokens[i] - sign * told
    enough = enough and (tokens[i] >= 0 or held[i][3] < 0)
  end
  if nano > 0 then
    for _, cap in ipairs(sets[asked.set[n]]) do
      money[cap] = money[cap] - sign * nano
      enough = enough and money[cap] >= 0
    end
  end
  return enough
end

local charged, granted, first, ids = {}, {}, 1, asked.calls
local expiry = string.format('%d', now + ttl) -- once, as that takes its time
while first <= #ids do
  -- Leases of one call that stand together are granted together.
  local call, last, mine, stale, enough = ids[first], first, {}, {}, true
  while ids[last + 1] == call do
    last = last + 1
  end
  local seen = {}
  for n = first, last do
    local slot = wanted[n]
    mine[n] = seen[slot] or redis.call('ZSCORE', KEYS[6 * slot - 2], call)
    seen[slot] = true
    if mine[n] and needs[n] and not redis.call('ZSCORE', KEYS[2], needs[n]) then
      -- A heartbeat put its slot back while another request of the call gave that up.
      calls[slot] = calls[slot] + 1
      mine[n], stale[n] = false, true
    end
    if not mine[n] then
      enough = take(n, 1) and enough
    end
  end
  for n = first, last do
    local slot = wanted[n]
    if not mine[n] and enough then
      redis.call('ZADD', KEYS[6 * slot - 2], expiry, call)
      if needs[n] and (rated[slot] or #sets[asked.set[n]] > 0) then
        charged[#charged + 1] = n
      end
    elseif not mine[n] then
      take(n, -1)
      if stale[n] then -- it still stands there
        calls[slot] = calls[slot] - 1
      end
    end
    granted[n] = (mine[n] or enough) and 1 or 0
  end
  first = last + 1
end
charge(asked, charged, rated, now)

local answer = { redis.call('ZCOUNT', KEYS[1], now + 1, '+inf') }
local function say(...)
  for _, number in ipairs({ ... }) do
    answer[#answer + 1] = number
  end
end
for i = 1, slots do
  keep(KEYS[6 * i - 2], ttl)
  say(redis.call('ZCARD', KEYS[6 * i - 2]) - 1, unpack(held[i]))
  say(held[i][2] - requests[i], held[i][3] - tokens[i])
end
for i = 1, #asked.caps do
  say(asked.caps[i][1] - money[i])
end
for n = 1, #ids do
  answer[#answer + 1] = granted[n]
end
return answer
