-- The sums of several periods; changes nothing.
-- KEYS  one hash a period
-- Returns for each period its names and sums, flat.
local answer = {}
for i = 1, #KEYS do
  answer[i] = redis.call('HGETALL', KEYS[i])
end
return answer
