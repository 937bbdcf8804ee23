-- Multiply a price by exp(step). No move leads outward beyond an end, or pulls back to one.
-- KEYS  prices, answer to a move of this name
-- ARGV  name, step, price before the move if there is none, low end, high end,
--       seconds to remember the answer
-- Returns the new price, as text.
local answer = redis.call('GET', KEYS[2])
if answer then
  return answer
end
local price = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or ARGV[3])
local step, low, high = tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[5])
if step > 0 and price < high then
  price = math.min(price * math.exp(step), high)
elseif step < 0 and price > low then
  price = math.max(price * math.exp(step), low)
end
answer = string.format('%.17g', price)
redis.call('HSET', KEYS[1], ARGV[1], answer)
redis.call('SET', KEYS[2], answer, 'EX', ARGV[6])
return answer
