-- Counts bytes of the day in both scopes that have a limit of them, or in none. Answers which scope has not so many left,
-- the day, and the era: a server that lost its memory begins another one, and what was set aside before is not given back
-- to it.
-- KEYS: the counters of each scope, and since when the server remembers the tenant's. ARGV: now or '', bytes, and for each scope the most bytes or -1.

local now = tonumber(ARGV[1])
if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
end
local bytes = tonumber(ARGV[2])
local today = math.floor(now / 86400000000)
local era = tonumber(redis.call('GET', KEYS[3]))
if not era then
    local time = redis.call('TIME')
    era = time[1] * 1000000 + time[2]
end
redis.call('SET', KEYS[3], string.format('%.0f', era), 'PX', 30 * 86400000)
local used = {}
for scope = 1, 2 do
    local most = tonumber(ARGV[2 + scope])
    if most >= 0 then
        local kept = redis.call('HMGET', KEYS[scope], 'day', 'bytes')
        used[scope] = tonumber(kept[1]) == today and tonumber(kept[2]) or 0
        if used[scope] + bytes > most then
            return { scope, today, era }
        end
    end
end
for scope = 1, 2 do
    if used[scope] then
        redis.call('HSET', KEYS[scope], 'day', today, 'bytes', string.format('%.0f', used[scope] + bytes))
        -- Never sooner than it was: the rate may take longer to come back.
        local ends = (today + 1) * 86400000 + 1000
        if redis.call('PTTL', KEYS[scope]) < ends - math.floor(now / 1000) then
            redis.call('PEXPIREAT', KEYS[scope], string.format('%.0f', ends))
        end
    end
end
return { 0, today, era }
