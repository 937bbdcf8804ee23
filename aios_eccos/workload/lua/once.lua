-- Put around the body of a write, as `verb`: one of a name that was done lately is not done again.
-- KEYS  answer to the write of this name, then those of the verb
-- ARGV  seconds to remember the answer, then those of the verb
local function rest(list) -- `unpack` takes no more than 8000
  local found = {}
  for i = 2, #list do
    found[i - 1] = list[i]
  end
  return found
end

local done = redis.call('GET', KEYS[1])
if done then
  return cmsgpack.unpack(done)
end
local answer = verb(rest(KEYS), rest(ARGV))
redis.call('SET', KEYS[1], cmsgpack.pack(answer), 'EX', ARGV[1])
return answer
