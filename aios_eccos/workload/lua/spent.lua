-- What is gone of caps; changes nothing.
-- KEYS  for each cap: spent
-- Returns for each what is spent, held, and spent beyond what was held.
local answer = {}
for i = 1, #KEYS do
  for _, amount in ipairs({ 'spent', 'held', 'beyond' }) do
    answer[#answer + 1] = number(redis.call('HGET', KEYS[i], amount))
  end
end
return answer
