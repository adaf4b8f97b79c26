-- A scope's generation and the writes in flight on all of it. ARGV: step, a fresh random generation, token, marker ms,
-- keep ms (0 for a table, whose record stays). Replies the record, or 0 when it already holds PENDING_MAX writers.
--   learn: create the record, or clear it of writers that died: what they wrote is unknown, so raise.
--   announce: the same, and let pages of the table count once every writer that does not know of it has ended.
--   begin: add a marker; the scope is not served until it ends, its entries stay.
--   abort: nothing changed: drop the marker, the entries count again.
--   end:   items changed: drop the marker and raise, so that no older entry counts.
--   remake: the table itself changed: the same, and what was learned of its key schema is void too.
-- A generation is a stamp and a count. An end raises the count; whatever else raises takes fresh bytes for both.
local step, fresh, token = ARGV[1], ARGV[2], ARGV[3]
local marker_ms, keep_ms = tonumber(ARGV[4]), tonumber(ARGV[5])
local record = redis.call('GET', KEYS[1])
local known = record and string.sub(record, 1, 2) == 'G' .. FORMAT
local generation, raised, pages_from = fresh, now, 0
local markers, mine, dead = {}, false, false
if known then
  generation, raised, pages_from = string.sub(record, 3, 10), read_u64(record, 11), read_u64(record, 19)
  local count = struct.unpack('>I2', record, 27)
  for i = 0, count - 1 do
    local at = 29 + i * 24
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
if (step == 'learn' or step == 'announce') and record and not dead and not (known and announces) then return record end
if announces then pages_from = now + marker_ms end
if step == 'begin' then
  if #markers >= PENDING_MAX then return 0 end
  markers[#markers + 1] = token .. u64(now + marker_ms)
end
local ends = step == 'abort' or step == 'end'
-- A write whose marker is missing was not protected all the time: whatever it was, it counts as a remake.
if dead or step == 'remake' or (ends and not mine) then
  generation, raised = fresh, now
elseif step == 'end' then
  local count = (struct.unpack('>I4', generation, 5) + 1) % 4294967296
  generation, raised = string.sub(generation, 1, 4) .. struct.pack('>I4', count), now
end
local written = 'G' .. FORMAT .. generation .. u64(raised) .. u64(pages_from)
  .. struct.pack('>I2', #markers) .. table.concat(markers)
if keep_ms == 0 then
  redis.call('SET', KEYS[1], written)
elseif ends and #markers == 0 and not (known and string.sub(record, 3, 10) == generation) then
  redis.call('DEL', KEYS[1]) -- the next reader's fresh generation is as good as a raised one
else
  redis.call('SET', KEYS[1], written, 'PX', keep_ms + marker_ms)
end
return written
