-- Multiply a price by exp(step), kept in range.
-- KEYS  prices
-- ARGV  name, step, price before the move if there is none, least price, greatest price
-- Returns the new price, as text.
local price = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or ARGV[3])
local logarithm = math.log(price) + tonumber(ARGV[2])
logarithm = math.min(math.max(logarithm, math.log(tonumber(ARGV[4]))), math.log(tonumber(ARGV[5])))
local moved = string.format('%.17g', math.exp(logarithm))
redis.call('HSET', KEYS[1], ARGV[1], moved)
return moved
