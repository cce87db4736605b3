-- Ends a download: its places are free, bytes set aside and not sent come back, bytes still owed are counted.
-- KEYS: for each scope its counters and its leases; the era. ARGV: now or '', the lease's id, unsent, the day they were set
-- aside on, owed, for each scope: has a place (0 or 1), counts bytes (0 or 1); the era they were set aside in.

local now = tonumber(ARGV[1])
if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
end
local today = math.floor(now / 86400000000)
local unsent, owed = tonumber(ARGV[3]), tonumber(ARGV[5])
if tonumber(ARGV[4]) ~= today or (unsent > 0 and ARGV[10] ~= redis.call('GET', KEYS[5])) then
    -- They went with that day's count, or with what the server remembered then.
    unsent = 0
end
for scope = 1, 2 do
    if ARGV[4 + scope * 2] == '1' then
        redis.call('ZREM', KEYS[scope * 2], ARGV[2])
    end
    if ARGV[5 + scope * 2] == '1' then
        local counters = KEYS[scope * 2 - 1]
        local kept = redis.call('HMGET', counters, 'day', 'bytes')
        local used = tonumber(kept[1]) == today and tonumber(kept[2]) or 0
        local sum = math.max(0, used - unsent) + owed
        if sum ~= used then
            redis.call('HSET', counters, 'day', today, 'bytes', string.format('%.0f', sum))
            local ends = (today + 1) * 86400000 + 1000
            if redis.call('PTTL', counters) < ends - math.floor(now / 1000) then
                redis.call('PEXPIREAT', counters, string.format('%.0f', ends))
            end
        end
    end
end
return 0
