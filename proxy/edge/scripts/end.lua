-- End a write whose outcome is known. ARGV: incarnation, token, outcome S/I/A, tombstone ms and, for S,
-- generation, digest, sent ms, age ms, soft ms, hard ms, payload, attributes. Replies the name of a FenceResult.
local incarnation, token, outcome, tombstone_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local record, is_hash = read(KEYS[1])
local markers, hidden = {}, ''
if state_of(record) == 'P' then markers, hidden = read_pending(record) end

local mine
local others, live = {}, false
for _, m in ipairs(markers) do
  if m.token == token then
    mine = m
  else
    others[#others + 1] = m
    live = live or m.deadline > now
  end
end

if live then
  for _, m in ipairs(others) do m.solo = false end
  put_pending(KEYS[1], others, '', tombstone_ms)
  return mine and 'overlapped' or 'lost'
end
if not mine then
  put_tombstone(KEYS[1], tombstone_ms)
  return 'lost'
end
if mine.solo and mine.incarnation == incarnation then
  if outcome == 'S' and put_new_entry(KEYS[1], incarnation, ARGV[5], ARGV[6],
      filled_at(tonumber(ARGV[7]), tonumber(ARGV[8])), tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11], 12) then
    return 'stored'
  elseif outcome == 'A' and usable(hidden, incarnation) then
    put_entry(KEYS[1], hidden, is_hash)
    return 'restored'
  end
end
put_tombstone(KEYS[1], tombstone_ms)
return 'invalidated'
