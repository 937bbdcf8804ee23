-- What is gone of caps; changes nothing.
-- KEYS  kernels, then for each cap: spent
-- Returns for each what is spent, held, and spent beyond what was held. What calls held of a kernel
-- that is gone, killed before they were settled, counts as spent.
local living, answer = living_of(KEYS[1], now_ms()), {}
for i = 2, #KEYS do
  local found, lost, flat = {}, 0, redis.call('HGETALL', KEYS[i])
  for j = 1, #flat, 2 do
    local name, amount = flat[j], number(flat[j + 1])
    local kernel = string.match(name, '^held:(.*)$')
    if kernel and not living(kernel) then
      lost = lost + amount
    end
    found[name] = amount
  end
  answer[#answer + 1] = (found.spent or 0) + lost
  answer[#answer + 1] = (found.held or 0) - lost
  answer[#answer + 1] = found.beyond or 0
end
return answer
