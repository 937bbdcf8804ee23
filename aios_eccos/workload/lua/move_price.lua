-- Multiply a price by exp(step). No move leads outward beyond an end, or pulls back to one.
-- KEYS  prices
-- ARGV  name, step, price before the move if there is none, low end, high end
-- Returns the new price, as text.
local price = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or ARGV[3])
if not (price and price >= 1e-300 and price <= 1e300) then -- none, as only others write it
  price = tonumber(ARGV[3])
end
local step, low, high = tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[5])
if step > 0 and price < high then
  price = math.min(price * math.exp(step), high)
elseif step < 0 and price > low then
  price = math.max(price * math.exp(step), low)
end
local moved = string.format('%.17g', price)
redis.call('HSET', KEYS[1], ARGV[1], moved)
return moved
