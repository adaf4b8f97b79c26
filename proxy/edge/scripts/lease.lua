-- Ask for permission to fill. ARGV: incarnation, generation, digest, token, lease ms, tombstone ms, force.
-- Replies: {'hit', V} | {'leased', strong} | {'wait', ms} | {'pending'}, each followed by now; and after a hit on a
-- hash by all its fields, since whoever shares the hit may want any of them.
local incarnation, generation, digest, token = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local lease_ms, tombstone_ms = tonumber(ARGV[5]), tonumber(ARGV[6])
local force = ARGV[7] == '1'

local function counts(entry)
  return usable(entry, incarnation) and string.sub(entry, 11, 18) == generation
    and string.sub(entry, 19, 34) == digest
end

local record, is_hash = read(KEYS[1])
local state = state_of(record)
local strong, kept = '0', ''
if state == '?' then
  return { 'pending', 0, now }
elseif state == 'P' then
  for _, m in ipairs((read_pending(record))) do
    if m.deadline > now then return { 'pending', 0, now } end
  end
  strong = '1' -- every writer died: a replica may not know yet what they wrote
elseif state == 'T' then
  strong = read_u64(record, 3) > now and '1' or '0'
elseif state == 'L' then
  local holder, _, deadline, was_strong, older = read_lease(record)
  if holder == incarnation and deadline > now then return { 'wait', deadline - now, now } end
  strong, kept = was_strong, older
elseif state == 'V' then
  if counts(record) and read_u64(record, 43) > now and not force then
    return { 'hit', record, now, is_hash and redis.call('HGETALL', KEYS[1]) or nil }
  end
  kept = record
end

local lifetime_ms = strong == '1' and lease_ms + tombstone_ms or lease_ms
if counts(kept) then
  lifetime_ms = math.max(lifetime_ms, hard_of(kept) - now)
else
  kept = ''
end
local lease = 'L' .. FORMAT .. incarnation .. token .. u64(now + lease_ms) .. strong .. kept
put(KEYS[1], lease, lifetime_ms, is_hash and kept ~= '')
return { 'leased', tonumber(strong), now }
