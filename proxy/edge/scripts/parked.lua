-- Park a stream record that could not be applied, in a list of the newest. ARGV: the record, how many at most, keep ms.
-- Replies how many older ones it pushed out.
local there = redis.call('LPUSH', KEYS[1], ARGV[1])
local room = tonumber(ARGV[2])
redis.call('LTRIM', KEYS[1], 0, room - 1)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return math.max(0, there - room)
