-- Keeps a download's places for another lease, and takes them anew where they were given away meanwhile.
-- KEYS: the leases of each scope. ARGV: now or '', the lease's id, its length, and for each scope 0 or 1.

local now = tonumber(ARGV[1])
if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
end
local ends = now + tonumber(ARGV[3])
for scope = 1, 2 do
    if ARGV[3 + scope] == '1' then
        redis.call('ZADD', KEYS[scope], string.format('%.0f', ends), ARGV[2])
        redis.call('PEXPIREAT', KEYS[scope], string.format('%.0f', math.ceil(ends / 1000) + 1000))
    end
end
return 0
