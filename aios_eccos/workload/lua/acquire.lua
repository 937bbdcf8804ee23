-- Take slots for a batch of calls, and with each a request, tokens and money.
-- KEYS  kernels, charged, settled, then for each slot: leases, limits, rpm, tpm, recent, closed;
--       then for each cap: spent
-- ARGV  ttl_ms, kernel, numbers of slots and of caps, then for each slot: declared limit, rpm and
--       tpm ('' = none); for each cap: most, seconds to keep it; for each lease: as in `lease_at`
-- Returns the number of known kernels; for each slot the limit, rpm and tpm that hold (-1 = none)
-- and the requests and tokens of the last minute; for each cap what is gone of it; then 1 or 0 for
-- each lease.
local now, ttl, kernel = now_ms(), tonumber(ARGV[1]), ARGV[2]
local slots, caps = tonumber(ARGV[3]), tonumber(ARGV[4])
register(KEYS[1], kernel, now, ttl)
local answer = { redis.call('ZCARD', KEYS[1]) }

-- What each slot and each cap still gives.
local calls, requests, tokens, money = {}, {}, {}, {}
for i = 1, slots do
  local key, arg = 6 * i - 3, 2 + 3 * i
  local leases, limits, recent = KEYS[key + 1], KEYS[key + 2], KEYS[key + 5]
  redis.call('ZREMRANGEBYSCORE', leases, '-inf', now)
  local held = {}
  for j = 0, 2 do
    declare(KEYS[key + 2 + j], KEYS[1], kernel, ARGV[arg + j], ttl)
    held[j] = smallest_limit(KEYS[key + 2 + j], KEYS[1], tonumber(ARGV[arg + j]), now) or -1
    answer[#answer + 1] = held[j]
  end
  local asked, told = of_minute(recent, now, true)
  answer[#answer + 1], answer[#answer + 2] = asked, told
  calls[i] = held[0] - redis.call('ZCARD', leases)
  requests[i] = held[1] >= 0 and held[1] - asked or nil
  tokens[i] = held[2] >= 0 and held[2] - told or nil
  if redis.call('EXISTS', KEYS[key + 6]) == 1 then
    calls[i] = 0
  end
end
for i = 1, caps do
  local gone = gone_of(KEYS[3 + 6 * slots + i])
  answer[#answer + 1] = gone
  money[i] = tonumber(ARGV[3 + 3 * slots + 2 * i]) - gone
end

-- Take (1) or give back (-1) what a lease needs; whether there was enough.
local function take(lease, sign)
  local i, enough = lease.slot, true
  local function from(left, at, amount)
    if left[at] and amount > 0 then
      left[at] = left[at] - sign * amount
      enough = enough and left[at] >= 0
    end
  end
  from(calls, i, 1)
  from(requests, i, 1)
  from(tokens, i, lease.tokens)
  for _, cap in ipairs(lease.caps) do
    from(money, cap, lease.money)
  end
  return enough
end

local charges = new_charges(slots, caps)
local at = 5 + 3 * slots + 2 * caps
while at <= #ARGV do
  -- Leases of one call that stand together are granted together.
  local group, seen, enough = {}, {}, true
  local call = ARGV[at + 1]
  repeat
    local lease
    lease, at = lease_at(at)
    lease.held = seen[lease.slot] or redis.call('ZSCORE', KEYS[6 * lease.slot - 2], call)
    seen[lease.slot] = true
    if not lease.held then
      enough = take(lease, 1) and enough
    end
    group[#group + 1] = lease
  until at > #ARGV or ARGV[at + 1] ~= call
  for _, lease in ipairs(group) do
    if not lease.held and enough then
      redis.call('ZADD', KEYS[6 * lease.slot - 2], now + ttl, call)
      charge(charges, lease, now, requests[lease.slot] or tokens[lease.slot])
    elseif not lease.held then
      take(lease, -1)
    end
    answer[#answer + 1] = (lease.held or enough) and 1 or 0
  end
end
write_charges(charges, now)
for i = 1, slots do
  keep(KEYS[6 * i - 2], ttl)
end
return answer
