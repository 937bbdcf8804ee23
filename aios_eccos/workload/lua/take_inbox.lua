-- Move messages to the taken list and return it; what was taken and not dropped comes first.
-- KEYS  inbox, taken, number of the next batch, aside
-- ARGV  most messages, bytes of all (but for the first), most bytes of one (else it is set aside),
--       messages kept aside, seconds to keep them
-- Returns the number of this batch, how many messages were set aside, then the messages.
local left, count, aside = tonumber(ARGV[2]), 0, 0
local most = redis.call('EXISTS', KEYS[2]) == 0 and tonumber(ARGV[1]) or 0
while count < most do
  local message = redis.call('LINDEX', KEYS[1], 0)
  if not message or (count > 0 and #message > left) then
    break
  end
  if #message > tonumber(ARGV[3]) then
    redis.call('RPUSH', KEYS[4], message)
    aside = aside + 1
  else
    redis.call('RPUSH', KEYS[2], message)
    left, count = left - #message, count + 1
  end
  redis.call('LPOP', KEYS[1])
end
if aside > 0 then
  redis.call('LTRIM', KEYS[4], -ARGV[4], -1)
  redis.call('EXPIRE', KEYS[4], ARGV[5])
end
local answer = { tonumber(redis.call('GET', KEYS[3]) or 0), aside }
for _, message in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  answer[#answer + 1] = message
end
return answer
