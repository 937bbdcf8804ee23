-- Put before every script. All clocks are the server's; times are milliseconds.

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A key outlives its last member's expiry, and nothing longer.
local function keep(key, ttl)
  if redis.call('PTTL', key) < ttl then
    redis.call('PEXPIRE', key, ttl)
  end
end

local function register(kernels, kernel, now, ttl)
  redis.call('ZREMRANGEBYSCORE', kernels, '-inf', now)
  redis.call('ZADD', kernels, now + ttl, kernel)
  keep(kernels, ttl)
end

-- Note a kernel's limit ('' = none), and drop those of kernels that are gone.
local function declare(limits, kernels, kernel, limit, ttl)
  if limit == '' then
    redis.call('ZREM', limits, kernel)
    return
  end
  redis.call('ZADD', limits, limit, kernel)
  keep(limits, ttl)
  if redis.call('ZCARD', limits) > redis.call('ZCARD', kernels) then
    for _, other in ipairs(redis.call('ZRANGE', limits, 0, -1)) do
      if not redis.call('ZSCORE', kernels, other) then
        redis.call('ZREM', limits, other)
      end
    end
  end
end

-- The smallest of one's own limit, if any, and those that living kernels declare.
local function smallest_limit(limits, kernels, own, now)
  local declared = redis.call('ZRANGE', limits, 0, -1, 'WITHSCORES')
  for i = 1, #declared, 2 do
    local expiry = redis.call('ZSCORE', kernels, declared[i])
    if expiry and tonumber(expiry) > now then
      local smallest = tonumber(declared[i + 1])
      return math.min(own or smallest, smallest)
    end
  end
  return own
end

-- What requests take beside a slot. A minute's requests and tokens are counted by the second, in one
-- hash: `requests` and `tokens` in all, r123 and t123 of second 123, and `upto`, the last second
-- that counts no longer. Of money a hash keeps what is `spent`, what calls in flight have `held`, and
-- how far calls have gone `beyond` what they held.
-- `charged` and `settled` are sets of needs, scored by their expiry.
local WINDOW, CHARGED_MS, SETTLED_MS = 62, 86400000, 600000

-- Requests and tokens of the last minute; drops older seconds if it may write.
local function of_minute(recent, now, may_write)
  local second = math.floor(now / 1000)
  local found = redis.call('HMGET', recent, 'requests', 'tokens', 'upto')
  local asked, told, upto = found[1] or 0, found[2] or 0, tonumber(found[3] or second)
  for old = upto + 1, second - WINDOW do
    local cell = redis.call('HMGET', recent, 'r' .. old, 't' .. old)
    asked, told = asked - (cell[1] or 0), told - (cell[2] or 0)
    if may_write then
      redis.call('HDEL', recent, 'r' .. old, 't' .. old)
    end
  end
  if may_write and upto < second - WINDOW then
    redis.call('HSET', recent, 'requests', asked, 'tokens', told, 'upto', second - WINDOW)
  end
  return tonumber(asked), tonumber(told)
end

-- Milliseconds until the oldest of the last minute comes back; 0 = there is nothing.
local function opens_ms(recent, now)
  local second = math.floor(now / 1000)
  local upto = tonumber(redis.call('HGET', recent, 'upto') or second)
  for old = math.max(upto, second - WINDOW) + 1, second do
    local cell = redis.call('HMGET', recent, 'r' .. old, 't' .. old)
    if tonumber(cell[1] or 0) > 0 or tonumber(cell[2] or 0) > 0 then
      return (old + WINDOW) * 1000 - now
    end
  end
  return 0
end

-- Count requests and tokens in a second of the last minute.
local function count(recent, second, requests, tokens)
  redis.call('HSETNX', recent, 'upto', second - 1)
  redis.call('HINCRBY', recent, 'requests', requests)
  redis.call('HINCRBY', recent, 'r' .. second, requests)
  redis.call('HINCRBY', recent, 'tokens', tokens)
  redis.call('HINCRBY', recent, 't' .. second, tokens)
  redis.call('EXPIRE', recent, WINDOW + 2)
end

-- What of a cap is spent or held.
local function gone_of(spent)
  local found = redis.call('HMGET', spent, 'spent', 'held')
  return (found[1] or 0) + (found[2] or 0)
end

-- One lease of the arguments, and where the next begins: 1-based index of its slot, call id, id of
-- its need ('' = none), tokens, money, number of caps and their 1-based indexes.
local function lease_at(at)
  local lease = {
    slot = tonumber(ARGV[at]),
    call = ARGV[at + 1],
    id = ARGV[at + 2],
    tokens = tonumber(ARGV[at + 3]),
    money = tonumber(ARGV[at + 4]),
    caps = {},
  }
  local caps = tonumber(ARGV[at + 5])
  for i = 1, caps do
    lease.caps[i] = tonumber(ARGV[at + 5 + i])
  end
  return lease, at + 6 + caps
end

-- Of a script whose keys begin as those of acquire.lua: what its leases are charged, to be written
-- at once.
local function new_charges(slots, caps)
  return { slots = slots, caps = caps, requests = {}, tokens = {}, money = {} }
end

-- Charge a lease, if it needs something that is limited (`rated`: its slot's rates are), unless its
-- need is charged or settled already.
local function charge(charges, lease, now, rated)
  if lease.id == '' or not (rated or lease.caps[1]) then
    return
  end
  if redis.call('ZSCORE', KEYS[3], lease.id) then
    return
  end
  if redis.call('ZADD', KEYS[2], 'NX', now + CHARGED_MS, lease.id) == 0 then
    return
  end
  local function add(to, at, amount)
    to[at] = (to[at] or 0) + amount
  end
  if rated then
    add(charges.requests, lease.slot, 1)
    add(charges.tokens, lease.slot, lease.tokens)
  end
  for _, cap in ipairs(lease.caps) do
    add(charges.money, cap, lease.money)
  end
end

local function write_charges(charges, now)
  local second = math.floor(now / 1000)
  for slot, requests in pairs(charges.requests) do
    count(KEYS[6 * slot + 2], second, requests, charges.tokens[slot])
  end
  for cap, money in pairs(charges.money) do
    local spent = KEYS[3 + 6 * charges.slots + cap]
    redis.call('HINCRBY', spent, 'held', money)
    redis.call('EXPIRE', spent, ARGV[4 + 3 * charges.slots + 2 * cap])
  end
  if next(charges.requests) or next(charges.money) then
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
    redis.call('PEXPIRE', KEYS[2], CHARGED_MS)
  end
end
