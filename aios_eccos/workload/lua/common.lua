-- Put before every script. All clocks are the server's; times are milliseconds.

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A key outlives its last member's expiry, and nothing longer.
local function keep(key, ttl)
  if redis.call('PTTL', key) < ttl then
    redis.call('PEXPIRE', key, ttl)
  end
end

local function register(kernels, kernel, now, ttl)
  redis.call('ZREMRANGEBYSCORE', kernels, '-inf', now)
  redis.call('ZADD', kernels, now + ttl, kernel)
  keep(kernels, ttl)
end

-- Note a kernel's limit, and drop those of kernels that are gone.
local function declare(limits, kernels, kernel, limit, ttl)
  redis.call('ZADD', limits, limit, kernel)
  keep(limits, ttl)
  if redis.call('ZCARD', limits) > redis.call('ZCARD', kernels) then
    for _, other in ipairs(redis.call('ZRANGE', limits, 0, -1)) do
      if not redis.call('ZSCORE', kernels, other) then
        redis.call('ZREM', limits, other)
      end
    end
  end
end

-- The smallest of one's own limit and those that living kernels declare.
local function smallest_limit(limits, kernels, own, now)
  local declared = redis.call('ZRANGE', limits, 0, -1, 'WITHSCORES')
  for i = 1, #declared, 2 do
    local expiry = redis.call('ZSCORE', kernels, declared[i])
    if expiry and tonumber(expiry) > now then
      return math.min(own, tonumber(declared[i + 1]))
    end
  end
  return own
end
