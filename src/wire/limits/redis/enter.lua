-- Counts one request in the scopes that are asked, the key's and then the tenant's, if both let it in.
-- KEYS: for each scope its counters (a hash) and its leases (a sorted set by end).
-- ARGV: now in microseconds or '' for the server's own time, the lease's id, its length in microseconds, and for each
-- scope: asked (0 or 1), period, burst, permits, most places or -1, most bytes or -1.
-- Numbers are whole microseconds and bytes below 2^53, where doubles are exact.

local now = tonumber(ARGV[1])
if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
end
local lease, length = ARGV[2], tonumber(ARGV[3])
local today = math.floor(now / 86400000000)

local function text(number)
    return string.format('%.0f', number)
end

local function read(scope)
    local at = 3 + (scope - 1) * 6
    if ARGV[at + 1] ~= '1' then
        return nil
    end
    local it = {
        counters = KEYS[scope * 2 - 1], leases = KEYS[scope * 2],
        period = tonumber(ARGV[at + 2]), permits = tonumber(ARGV[at + 4]),
        places = tonumber(ARGV[at + 5]), bytes = tonumber(ARGV[at + 6]),
        granted = 0, active = 0, used = 0,
    }
    it.depth = it.period * tonumber(ARGV[at + 3])
    local kept = redis.call('HMGET', it.counters, 'tat', 'day', 'bytes')
    it.arrival = math.max(tonumber(kept[1]) or 0, now)
    if it.period > 0 and it.arrival > now + it.depth then
        -- Of a rate that was slower, or of a clock that was ahead: all is used up now, and no more than that.
        it.arrival = now + it.depth
        redis.call('HSET', it.counters, 'tat', text(it.arrival))
    end
    if tonumber(kept[2]) == today then
        it.used = tonumber(kept[3]) or 0
    end
    if it.places >= 0 then
        redis.call('ZREMRANGEBYSCORE', it.leases, '-inf', text(now))
        it.active = redis.call('ZCARD', it.leases)
    end
    return it
end

-- Day, places, rate: the first that says no is the answer.
local function judge(it)
    if it.bytes >= 0 and it.used >= it.bytes then
        return 1
    end
    if it.places >= 0 and it.active >= it.places then
        return 2
    end
    if it.permits > 0 then
        local room = math.floor((now + it.depth - it.arrival) / it.period)
        if room < 1 then
            return 3
        end
        it.granted = math.min(room, it.permits)
    end
    return 0
end

local function take(it)
    if it.granted > 0 then
        it.arrival = it.arrival + it.period * it.granted
        redis.call('HSET', it.counters, 'tat', text(it.arrival))
        -- It is as good as new once the rate is back, and nobody asks for yesterday's bytes.
        local ends = math.max(it.arrival, it.used > 0 and (today + 1) * 86400000000 or 0)
        redis.call('PEXPIREAT', it.counters, text(math.ceil(ends / 1000) + 1000))
    end
end

local function place(it)
    if it and it.places >= 0 then
        redis.call('ZADD', it.leases, text(now + length), lease)
        redis.call('PEXPIREAT', it.leases, text(math.ceil((now + length) / 1000) + 1000))
        it.active = it.active + 1
    end
end

local function report(answer, it)
    if not it then
        answer[#answer + 1] = 0
        for _ = 1, 5 do
            answer[#answer + 1] = 0
        end
        return
    end
    local left, wait = 0, 0
    if it.period > 0 then
        left = math.max(0, math.floor((now + it.depth - it.arrival) / it.period))
        wait = math.max(0, it.arrival + it.period - now - it.depth)
    end
    answer[#answer + 1] = 1
    answer[#answer + 1] = it.granted
    answer[#answer + 1] = left
    answer[#answer + 1] = wait
    answer[#answer + 1] = it.active
    answer[#answer + 1] = it.used
end

local asked, refused, by = { read(1), read(2) }, 0, 0
for scope = 1, 2 do
    local it = asked[scope]
    if it then
        refused = judge(it)
        if refused ~= 0 then
            by = scope
            break
        end
        take(it)
    end
end
if refused == 0 then
    place(asked[1])
    place(asked[2])
elseif by == 1 then
    asked[2] = nil
end
local answer = { refused, by }
report(answer, asked[1])
report(answer, asked[2])
return answer
