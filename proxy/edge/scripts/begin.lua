-- Mark a write in flight. ARGV: incarnation, token, marker ms, gate open, tombstone ms.
-- Replies 1, or 0 when the record already holds PENDING_MAX writers.
local incarnation, token, deadline = ARGV[1], ARGV[2], now + tonumber(ARGV[3])
local solo = ARGV[4] == '1'
local record, is_hash = read(KEYS[1])
local state = state_of(record)
local markers, hidden = {}, ''

if state == 'P' then
  markers, hidden = read_pending(record)
  for _, m in ipairs(markers) do
    if m.token == token then -- a proxy that was paused begins again: nobody came in between, or solo is lost already
      m.deadline = deadline
      put_pending(KEYS[1], markers, hidden, tonumber(ARGV[5]), is_hash)
      return 1
    end
  end
  -- Writers that died count once more, in that nobody here is solo any longer; then they may go.
  local live = {}
  for _, m in ipairs(markers) do
    m.solo = false
    if m.deadline > now then live[#live + 1] = m end
  end
  if #live >= PENDING_MAX then return 0 end
  markers, solo, hidden = live, false, ''
elseif state == 'V' then
  hidden = record
elseif state == 'L' then
  local _, _, _, _, kept = read_lease(record)
  hidden = kept
elseif state == '?' then
  solo = false -- perhaps a writer of another release
end
if not usable(hidden, incarnation) then hidden = '' end
markers[#markers + 1] = { token = token, incarnation = incarnation, deadline = deadline, solo = solo }
put_pending(KEYS[1], markers, hidden, tonumber(ARGV[5]), is_hash)
return 1
