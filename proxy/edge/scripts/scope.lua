-- A scope's generation and the writes in flight on all of it. ARGV: step, a fresh random generation, token, marker ms,
-- keep ms (0 for a table, whose record stays), incarnation; for due, interval ms; for identify, table id and sure ms.
-- Replies the record, 0 when it already holds PENDING_MAX writers, or as due and identify say.
--   learn: create the record, or clear it of writers that died: what they wrote is unknown, so raise.
--   announce: the same, and let pages of the table count once every writer that does not know of it has ended.
--   begin: add a marker; the scope is not served until it ends, its entries stay.
--   abort: nothing changed: drop the marker, the entries count again.
--   end:   items changed: drop the marker and raise, so that no older entry counts.
--   remake: the table itself changed: the same, and what was learned of its key schema is void too.
--   due:   claim the check of which table this is, if the last was claimed an interval ago; else reply the ms until then.
--   identify: remember which table this is; remake if it was another, or unknown for longer than sure ms. Replies 0
--          unless it remade.
-- A generation is a stamp and a count. An end raises the count; whatever else raises takes fresh bytes for both.
local step, fresh, token = ARGV[1], ARGV[2], ARGV[3]
local marker_ms, keep_ms, incarnation = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local UNKNOWN = string.rep('\0', 16)
local record = redis.call('GET', KEYS[1])
local known = record and string.sub(record, 1, 2) == 'G' .. FORMAT
local before, generation, raised, pages_from = '', fresh, now, 0
local id, checked = UNKNOWN, 0
local markers, mine, dead, counts = {}, false, false, false
if known then
  -- A fail-over may bring back a generation whose entries live on another primary: the record is made anew, but for
  -- the writes in flight.
  counts = string.sub(record, 3, 10) == incarnation
  if counts then
    before = string.sub(record, 11, 18)
    generation, raised, pages_from = before, read_u64(record, 19), read_u64(record, 27)
    id, checked = string.sub(record, 35, 50), read_u64(record, 51)
  end
  local count = struct.unpack('>I2', record, 59)
  for i = 0, count - 1 do
    local at = 61 + i * 24
    if string.sub(record, at, at + 15) == token then
      mine = true
    elseif read_u64(record, at + 16) > now then
      markers[#markers + 1] = string.sub(record, at, at + 23)
    else
      dead = true
    end
  end
end
local announces = step == 'announce' and pages_from == 0
-- A record of another release is left to it: its readers and ours both go upstream.
if record and not known then
  if step == 'learn' or step == 'announce' then return record end
  if step == 'due' then return tonumber(ARGV[7]) end
  if step == 'identify' then return 0 end
end
if (step == 'learn' or step == 'announce') and counts and not dead and not announces then return record end
if announces then pages_from = now + marker_ms end
if step == 'begin' then
  if #markers >= PENDING_MAX then return 0 end
  markers[#markers + 1] = token .. u64(now + marker_ms)
end
if step == 'due' then
  local left = checked + tonumber(ARGV[7]) - now
  if left > 0 then return left end
  checked = now
end
local remakes = step == 'remake'
if step == 'identify' then
  if id == ARGV[7] then return 0 end
  -- Unknown: entries under this generation may be another table's, but of the first moments nobody makes a table anew.
  remakes = id ~= UNKNOWN or now - raised > tonumber(ARGV[8])
  id = ARGV[7]
end
local ends = step == 'abort' or step == 'end'
-- A write whose marker is missing was not protected all the time: whatever it was, it counts as a remake.
if dead or remakes or (ends and not mine) then
  generation, raised = fresh, now
elseif step == 'end' then
  local count = (struct.unpack('>I4', generation, 5) + 1) % 4294967296
  generation, raised = string.sub(generation, 1, 4) .. struct.pack('>I4', count), now
end
local written = 'G' .. FORMAT .. incarnation .. generation .. u64(raised) .. u64(pages_from) .. id .. u64(checked)
  .. struct.pack('>I2', #markers) .. table.concat(markers)
if keep_ms == 0 then
  redis.call('SET', KEYS[1], written)
elseif ends and #markers == 0 and before ~= generation then
  redis.call('DEL', KEYS[1]) -- the next reader's fresh generation is as good as a raised one
else
  redis.call('SET', KEYS[1], written, 'PX', keep_ms + marker_ms)
end
if step == 'identify' and not remakes then return 0 end
return written
