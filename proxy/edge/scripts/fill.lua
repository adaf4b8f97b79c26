-- Store a fetched entry under its lease. ARGV: incarnation, token, generation, digest, sent ms, age ms,
-- soft ms, hard ms, payload, attributes. Replies 1 when stored, 0 when the lease had gone.
local record = read(KEYS[1])
if state_of(record) ~= 'L' then return 0 end
local holder, token = read_lease(record)
if holder ~= ARGV[1] or token ~= ARGV[2] then return 0 end
local filled = filled_at(tonumber(ARGV[5]), tonumber(ARGV[6]))
local soft_ms, hard_ms = tonumber(ARGV[7]), tonumber(ARGV[8])
if put_new_entry(KEYS[1], ARGV[1], ARGV[3], ARGV[4], filled, soft_ms, hard_ms, ARGV[9], 10) then
  return 1
end
redis.call('DEL', KEYS[1])
return 0
