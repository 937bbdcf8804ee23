-- Put before every script. All clocks are the server's; times are milliseconds.

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A key outlives its last member's expiry, by as long again at most: so most writes leave it alone.
local function keep(key, ttl)
  if redis.call('PTTL', key) < ttl then
    redis.call('PEXPIRE', key, 2 * ttl)
  end
end

-- When a kernel's life ends that is not prolonged; 0 = it is not known.
local function end_of(kernels, kernel)
  return tonumber(redis.call('ZSCORE', kernels, kernel) or 0)
end

-- Says of a kernel whether it lives; asks once for each.
local function living_of(kernels, now)
  local living = {}
  return function(name)
    if living[name] == nil then
      living[name] = end_of(kernels, name) > now
    end
    return living[name]
  end
end

-- Kernels that have yet to hear that Redis has lost something: until each has told anew what it
-- holds, or its leases are over, a kernel that starts lends nothing. They stand among the kernels,
-- with the negative time at which that was found.
local function forget(kernels, now)
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', kernels, now + 1, '+inf')) do
    redis.call('ZADD', kernels, 0 - now, name)
  end
end

local function forgotten(kernels, now, ttl)
  return redis.call('ZCOUNT', kernels, '-inf', ttl - now)
end

-- Note that a kernel lives.
local function register(kernels, kernel, now, ttl)
  redis.call('ZREMRANGEBYSCORE', kernels, '(0', now)
  redis.call('ZREMRANGEBYSCORE', kernels, '(' .. ttl - now, 0)
  redis.call('ZADD', kernels, now + ttl, kernel)
  keep(kernels, ttl)
end

-- The smallest of one's own limit (-1 = none) and those that other living kernels declare; then what
-- the kernel has declared before, and kernels that are gone, if any had to be looked at.
local function smallest_limit(limits, living, kernel, own, all)
  local name, limit = unpack(redis.call('ZRANGE', limits, 0, 0, 'WITHSCORES'))
  if not name then
    return own, -1, {}
  end
  limit = tonumber(limit)
  if not all and name == kernel and limit == own then
    return own, own, {}
  elseif not all and name ~= kernel and living(name) then
    local before = kernel ~= '' and redis.call('ZSCORE', limits, kernel)
    return own < 0 and limit or math.min(own, limit), tonumber(before or -1), {}
  end
  local declared = redis.call('ZRANGE', limits, 0, -1, 'WITHSCORES')
  local smallest, before, gone = own, -1, {}
  for i = 1, #declared, 2 do
    local name, limit = declared[i], tonumber(declared[i + 1])
    if name == kernel then
      before = limit
    elseif not living(name) then
      gone[#gone + 1] = name
    elseif smallest < 0 or limit < smallest then
      smallest = limit
    end
  end
  return smallest, before, gone
end

-- Note a kernel's limit (-1 = none) and drop those of kernels that are gone; returns the one that
-- holds. What stands there already is prolonged by heartbeats, `again`.
local function declare(limits, living, kernel, own, ttl, again)
  local smallest, before, gone = smallest_limit(limits, living, kernel, own, again)
  if #gone > 0 then
    redis.call('ZREM', limits, unpack(gone))
  end
  if own < 0 and before >= 0 then
    redis.call('ZREM', limits, kernel)
  elseif own >= 0 and (again or before ~= own) then
    redis.call('ZADD', limits, own, kernel)
    keep(limits, ttl)
  end
  return smallest
end

-- What requests take beside a slot. A minute's requests and tokens are counted by the second, in one
-- hash: `requests` and `tokens` in all, r123 and t123 of second 123, and `upto`, the last second
-- that counts no longer. Of money a hash keeps what is `spent`, what calls in flight have `held`, of
-- that what those of a kernel have (`held:KERNEL`), and how far calls have gone `beyond` what they held.
-- `charged` and `settled` are sets of needs, scored by their expiry.
local WINDOW, CHARGED_MS, SETTLED_MS = 62, 86400000, 600000
-- Redis keeps a sorted set as a list while it is small and its members are short, and looks through
-- all of it for each addition. With this one in it 64 needs are added in a third of the time.
local AS_SKIP_LIST = string.rep('-', 65)

-- Largest number that is believed: up to there all whole ones are exact.
local MOST = 9e15

-- A stored number; 0 where something else lies there, which would make all sums nothing.
local function number(stored)
  local found = tonumber(stored)
  return found and math.abs(found) < MOST and found or 0
end

-- Add to a stored sum; one that is no number, or too large, as only others write it, begins anew.
local function add_to(verb, key, field, amount)
  local added = redis.pcall(verb, key, field, amount)
  if type(added) == 'table' and added.err or math.abs(tonumber(added)) >= MOST then
    redis.call('HSET', key, field, amount)
    return tonumber(amount)
  end
  return added
end

-- The last second that counts no longer. Another's may lie anywhere: a walk from there to now has to
-- end.
local function upto_of(stored, second)
  local found = number(stored)
  return (found > second or found < second - 3 * WINDOW) and second - WINDOW or found
end

-- Requests and tokens of the last minute; drops older seconds if it may write.
local function of_minute(recent, now, may_write)
  local second = math.floor(now / 1000)
  local found = redis.call('HMGET', recent, 'requests', 'tokens', 'upto')
  local asked, told = number(found[1]), number(found[2])
  local upto = found[3] and upto_of(found[3], second) or second
  if may_write and found[3] and upto ~= number(found[3]) then
    -- What was counted before that second would never come back.
    redis.call('DEL', recent)
    return 0, 0
  end
  for old = upto + 1, second - WINDOW do
    local cell = redis.call('HMGET', recent, 'r' .. old, 't' .. old)
    asked, told = asked - number(cell[1]), told - number(cell[2])
    if may_write then
      redis.call('HDEL', recent, 'r' .. old, 't' .. old)
    end
  end
  if may_write and upto < second - WINDOW then
    redis.call('HSET', recent, 'requests', asked, 'tokens', told, 'upto', second - WINDOW)
  end
  return asked, told
end

-- Milliseconds until the oldest of the last minute comes back; 0 = there is nothing.
local function opens_ms(recent, now)
  local second = math.floor(now / 1000)
  local upto = upto_of(redis.call('HGET', recent, 'upto') or second, second)
  local first, names = math.max(upto, second - WINDOW) + 1, {}
  for old = first, second do
    names[#names + 1], names[#names + 2] = 'r' .. old, 't' .. old
  end
  for i, cell in ipairs(#names > 0 and redis.call('HMGET', recent, unpack(names)) or {}) do
    if number(cell) > 0 then
      return (first + math.floor((i - 1) / 2) + WINDOW) * 1000 - now
    end
  end
  return 0
end

-- Count requests and tokens in a second of the last minute.
local function count(recent, second, requests, tokens)
  local r, t = 'r' .. second, 't' .. second
  local found = redis.call('HMGET', recent, 'requests', 'tokens', r, t, 'upto')
  local function more(i, amount)
    return string.format('%d', number(found[i]) + amount)
  end
  redis.call(
    'HSET', recent, 'requests', more(1, requests), 'tokens', more(2, tokens),
    r, more(3, requests), t, more(4, tokens), 'upto', found[5] or second - 1
  )
  redis.call('EXPIRE', recent, WINDOW + 2)
end

-- Note that calls of a kernel hold so much more of a cap.
local function hold(spent, kernel, nano)
  local amount = string.format('%d', nano)
  add_to('HINCRBY', spent, 'held', amount)
  if add_to('HINCRBY', spent, 'held:' .. kernel, amount) == 0 then
    redis.call('HDEL', spent, 'held:' .. kernel)
  end
end

-- What of a cap is spent or held.
local function gone_of(spent)
  local found = redis.call('HMGET', spent, 'spent', 'held')
  return number(found[1]) + number(found[2])
end

-- acquire.lua and renew.lua read one argument: JSON of `ttl` in ms, `kernel`, whether Redis has
-- `known` it before, by slot its `limits` (those on calls, rpm and tpm that are declared, -1 = none)
-- and whether Redis has been `told` just these,
-- by cap what it gives and seconds to keep it (`caps`), and of each lease 1-based index of its slot
-- (`slots`) and call id (`calls`). Where leases need something with their slots also `sets` of caps,
-- and of each lease its need's id (`needs`, false = none), `tokens`, `nano` of money, and 1-based
-- index of its set of caps (`set`). Their keys are: kernels, charged, settled; for each slot: leases,
-- limits, rpm, tpm, recent, closed; for each cap: spent.

-- A member of each slot's leases that is none. It stands there since a kernel has declared the slot:
-- without it Redis has lost the leases, as one does that evicts.
local KEPT = '-'

-- Whether some kernel that lives declares a slot.
local function is_declared(limits, living)
  for _, name in ipairs(redis.call('ZRANGE', limits, 0, -1)) do
    if living(name) then
      return true
    end
  end
  return false
end

-- Whether Redis has lost the leases or limits of a slot that is asked for. Then it knows no kernel any
-- longer, so that each hears of it at its next word, and tells anew what it holds.
local function has_lost(asked, living, now, channel)
  for i, own in ipairs(asked.limits) do
    if own[1] >= 0 then
      local leases, limits, told = KEYS[6 * i - 2], KEYS[6 * i - 1], asked.known and asked.told[i]
      local kept = redis.call('ZSCORE', leases, KEPT)
      if
        not kept and (told or is_declared(limits, living))
        or told and not redis.call('ZSCORE', limits, asked.kernel)
      then
        forget(KEYS[1], now)
        redis.call('PUBLISH', channel, '?') -- all look at once
        return true
      elseif not kept then
        redis.call('ZADD', leases, '+inf', KEPT)
        keep(leases, asked.ttl)
      end
    end
  end
  return false
end

-- Write what some leases need, unless that is charged already.
local function charge(asked, leases, rated, now)
  if #leases == 0 then
    return
  end
  redis.call('ZADD', KEYS[2], '+inf', AS_SKIP_LIST)
  local ids, expiry = {}, string.format('%d', now + CHARGED_MS)
  for i, n in ipairs(leases) do
    ids[2 * i - 1], ids[2 * i] = expiry, asked.needs[n]
  end
  local added = 0
  for first = 1, #ids, 4000 do -- `unpack` takes no more than 8000
    local last = math.min(first + 3999, #ids)
    added = added + redis.call('ZADD', KEYS[2], 'NX', unpack(ids, first, last))
  end
  local requests, tokens, money = {}, {}, {}
  for _, n in ipairs(leases) do
    local slot = asked.slots[n]
    -- Where some were charged before, their scores tell.
    if added == #leases or redis.call('ZSCORE', KEYS[2], asked.needs[n]) == expiry then
      if rated[slot] then
        requests[slot] = (requests[slot] or 0) + 1
        tokens[slot] = (tokens[slot] or 0) + asked.tokens[n]
      end
      for _, cap in ipairs(asked.sets[asked.set[n]]) do
        money[cap] = (money[cap] or 0) + asked.nano[n]
      end
    end
  end
  local second = math.floor(now / 1000)
  for slot, number in pairs(requests) do
    count(KEYS[6 * slot + 2], second, number, tokens[slot])
  end
  for cap, amount in pairs(money) do
    local spent = KEYS[3 + 6 * #asked.limits + cap]
    hold(spent, asked.kernel, amount)
    redis.call('EXPIRE', spent, asked.caps[cap][2])
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  redis.call('PEXPIRE', KEYS[2], CHARGED_MS)
end
