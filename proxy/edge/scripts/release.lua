-- Give a lease back unused. ARGV: incarnation, token, tombstone ms. Replies 1, or 0 when it had gone.
local record, is_hash = read(KEYS[1])
if state_of(record) ~= 'L' then return 0 end
local holder, token, _, strong, kept = read_lease(record)
if holder ~= ARGV[1] or token ~= ARGV[2] then return 0 end
if usable(kept, ARGV[1]) then
  put_entry(KEYS[1], kept, is_hash)
elseif strong == '1' then
  put_tombstone(KEYS[1], tonumber(ARGV[3]))
else
  redis.call('DEL', KEYS[1])
end
return 1
