-- Multiply a price by exp(step), kept in range.
-- KEYS  prices
-- ARGV  name, step, price before the move if there is none, least price, greatest price
-- Returns the new price, as text.
local price = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or ARGV[3])
price = price * math.exp(tonumber(ARGV[2]))
price = math.min(math.max(price, tonumber(ARGV[4])), tonumber(ARGV[5]))
local moved = string.format('%.17g', price)
redis.call('HSET', KEYS[1], ARGV[1], moved)
return moved
