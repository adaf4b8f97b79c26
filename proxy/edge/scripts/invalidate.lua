-- Out-of-band write, purge or replayed debt. ARGV: tombstone ms. It never stores, so duplicates are harmless.
local record = read(KEYS[1])
if state_of(record) == 'P' then
  local markers = read_pending(record)
  for _, m in ipairs(markers) do m.solo = false end
  put_pending(KEYS[1], markers, '', tonumber(ARGV[1]))
else
  put_tombstone(KEYS[1], tonumber(ARGV[1]))
end
return 1
