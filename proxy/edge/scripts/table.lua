-- A table's generation and the table-wide writes in flight. ARGV: step, a fresh random generation, token,
-- marker ms. Replies the record, or 0 when it already holds PENDING_MAX writers.
--   learn: create the record, or clear it of writers that died: what they wrote is unknown, so raise.
--   begin: add a marker; the table is not served until it ends, its entries stay.
--   abort: nothing changed: drop the marker, the entries count again.
--   end:   items changed: drop the marker and raise, so that no older entry counts.
--   remake: the table itself changed: the same, and what was learned of its key schema is void too.
-- A generation is a stamp and a count. An end raises the count; whatever else raises takes fresh bytes for both.
local step, fresh, token = ARGV[1], ARGV[2], ARGV[3]
local record = redis.call('GET', KEYS[1])
local known = record and string.sub(record, 1, 2) == 'G' .. FORMAT
local generation, markers, mine, dead = fresh, {}, false, false
if known then
  generation = string.sub(record, 3, 10)
  local count = struct.unpack('>I2', record, 11)
  for i = 0, count - 1 do
    local at = 13 + i * 24
    if string.sub(record, at, at + 15) == token then
      mine = true
    elseif read_u64(record, at + 16) > now then
      markers[#markers + 1] = string.sub(record, at, at + 23)
    else
      dead = true
    end
  end
end
-- A record of another release is left to it: its readers and ours both go upstream.
if step == 'learn' and record and not dead then return record end
if step == 'begin' then
  if #markers >= PENDING_MAX then return 0 end
  markers[#markers + 1] = token .. u64(now + tonumber(ARGV[4]))
end
-- A write whose marker is missing was not protected all the time: whatever it was, it counts as a remake.
if dead or step == 'remake' or ((step == 'abort' or step == 'end') and not mine) then
  generation = fresh
elseif step == 'end' and known then
  local raised = (struct.unpack('>I4', generation, 5) + 1) % 4294967296
  generation = string.sub(generation, 1, 4) .. struct.pack('>I4', raised)
end
local written = 'G' .. FORMAT .. generation .. struct.pack('>I2', #markers) .. table.concat(markers)
redis.call('SET', KEYS[1], written)
return written
