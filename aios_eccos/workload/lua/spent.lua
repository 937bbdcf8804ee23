-- What is gone of caps; changes nothing.
-- KEYS  for each cap: spent
-- Returns for each what is spent and what is held.
local answer = {}
for i = 1, #KEYS do
  local found = redis.call('HMGET', KEYS[i], 'spent', 'held')
  answer[2 * i - 1], answer[2 * i] = tonumber(found[1] or 0), tonumber(found[2] or 0)
end
return answer
