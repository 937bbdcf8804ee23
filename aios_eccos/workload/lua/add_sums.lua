-- Add amounts to the sums of several periods.
-- KEYS  one hash a period
-- ARGV  for each period: seconds to keep it (0 = for good), number of sums, then name and amount
local at = 1
for i = 1, #KEYS do
  local ttl, count = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  for j = 1, count do
    add_to('HINCRBYFLOAT', KEYS[i], ARGV[at + 2 * j], ARGV[at + 2 * j + 1])
  end
  if ttl > 0 then
    redis.call('EXPIRE', KEYS[i], ttl)
  end
  at = at + 2 + 2 * count
end
