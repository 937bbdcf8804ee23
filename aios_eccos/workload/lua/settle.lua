-- Count what requests have really taken instead of their needs.
-- KEYS  charged, settled, then for each slot: recent; for each cap: spent
-- ARGV  numbers of slots and of caps, then for each cap: seconds to keep it; for each request: as
--       in `lease_at`, then requests, tokens and money
local now, slots, caps = now_ms(), tonumber(ARGV[1]), tonumber(ARGV[2])
local second = math.floor(now / 1000)
for i = 1, slots do
  of_minute(KEYS[2 + i], now, true)
end

local at = 3 + caps
while at <= #ARGV do
  local lease
  lease, at = lease_at(at)
  local requests, tokens, money = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  at = at + 3
  if redis.call('ZADD', KEYS[2], 'NX', now + SETTLED_MS, lease.id) == 1 then
    local recent, expiry = KEYS[2 + lease.slot], redis.call('ZSCORE', KEYS[1], lease.id)
    redis.call('ZREM', KEYS[1], lease.id)
    if not expiry then -- lent by a kernel alone
      count(recent, second, requests, tokens)
    else
      -- The need comes back in the second in which it was charged, if that counts still. What was
      -- really taken counts from now, as some servers count tokens when they have answered.
      local charged = math.floor((tonumber(expiry) - CHARGED_MS) / 1000)
      local upto = tonumber(redis.call('HGET', recent, 'upto') or second)
      if charged > upto then
        count(recent, charged, requests - 1, 0 - lease.tokens)
        count(recent, second, 0, tokens)
      elseif tokens > 0 then
        count(recent, second, 0, tokens)
      end
    end
    for _, cap in ipairs(lease.caps) do
      local spent = KEYS[2 + slots + cap]
      if expiry then
        redis.call('HINCRBY', spent, 'held', string.format('%d', 0 - lease.money))
      end
      redis.call('HINCRBY', spent, 'spent', string.format('%d', money))
      redis.call('HINCRBY', spent, 'beyond', string.format('%d', math.max(money - lease.money, 0)))
      redis.call('EXPIRE', spent, ARGV[2 + cap])
    end
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('PEXPIRE', KEYS[2], SETTLED_MS)
