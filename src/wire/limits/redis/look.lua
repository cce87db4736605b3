-- Reads the counters of the scopes that are asked and changes nothing.
-- KEYS: for each scope its counters and its leases. ARGV: now or '', and for each scope: asked (0 or 1), period, burst.

local now = tonumber(ARGV[1])
if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
end
local today = math.floor(now / 86400000000)
local answer = {}
for scope = 1, 2 do
    local at = 1 + (scope - 1) * 3
    local left, wait, active, used = 0, 0, 0, 0
    if ARGV[at + 1] == '1' then
        local kept = redis.call('HMGET', KEYS[scope * 2 - 1], 'tat', 'day', 'bytes')
        local arrival = math.max(tonumber(kept[1]) or 0, now)
        local period = tonumber(ARGV[at + 2])
        if period > 0 then
            local depth = period * tonumber(ARGV[at + 3])
            arrival = math.min(arrival, now + depth)
            left = math.max(0, math.floor((now + depth - arrival) / period))
            wait = math.max(0, arrival + period - now - depth)
        end
        used = tonumber(kept[2]) == today and tonumber(kept[3]) or 0
        active = redis.call('ZCOUNT', KEYS[scope * 2], string.format('(%.0f', now), '+inf')
    end
    for _, number in ipairs({ tonumber(ARGV[at + 1]), 0, left, wait, active, used }) do
        answer[#answer + 1] = number
    end
end
return answer
