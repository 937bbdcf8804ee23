-- Count what requests have really taken instead of their needs.
-- KEYS  charged, settled, then for each slot: recent, rpm, tpm; for each cap: spent
-- ARGV  JSON: `kernel`, number of `slots`, by cap seconds to `keep` it, `sets` of caps, and `used`: for each
--       request the 1-based index of its slot, its need's id, tokens, money and 1-based index of its
--       set of caps, then requests, tokens and money that were taken; `late`: what is not charged may
--       have been settled so long ago that it is forgotten, so that it is not counted
local asked = cjson.decode(ARGV[1])
local now = now_ms()
local second = math.floor(now / 1000)
local rated = {}
for i = 1, asked.slots do
  of_minute(KEYS[3 * i], now, true)
  rated[i] = redis.call('EXISTS', KEYS[3 * i + 1], KEYS[3 * i + 2]) > 0
end

local function add(spent, amount, nano)
  add_to('HINCRBY', spent, amount, string.format('%d', nano))
end

for _, each in ipairs(asked.used) do
  local slot, id, held_tokens, held_money, set, requests, tokens, money = unpack(each)
  local recent, expiry = KEYS[3 * slot], redis.call('ZSCORE', KEYS[1], id)
  local first = redis.call('ZADD', KEYS[2], 'NX', now + SETTLED_MS, id) == 1
  if first and (expiry or not asked.late) then
    redis.call('ZREM', KEYS[1], id)
    if not expiry then -- lent by a kernel alone, which may have yet to declare its rates
      count(recent, second, requests, tokens)
    elseif rated[slot] then -- else only money was charged
      -- The need comes back in the second in which it was charged, if that counts still. What was
      -- really taken counts from now, as some servers count tokens when they have answered.
      local charged = math.floor((tonumber(expiry) - CHARGED_MS) / 1000)
      local upto = upto_of(redis.call('HGET', recent, 'upto') or second, second)
      if charged > upto then
        count(recent, charged, requests - 1, 0 - held_tokens)
        count(recent, second, 0, tokens)
      elseif tokens > 0 then
        count(recent, second, 0, tokens)
      end
    end
    for _, cap in ipairs(asked.sets[set]) do
      local spent = KEYS[2 + 3 * asked.slots + cap]
      if expiry then
        hold(spent, asked.kernel, 0 - held_money)
      end
      add(spent, 'spent', money)
      add(spent, 'beyond', math.max(money - held_money, 0))
      redis.call('EXPIRE', spent, asked.keep[cap])
    end
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('PEXPIRE', KEYS[2], SETTLED_MS)
