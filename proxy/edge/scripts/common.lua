-- Shared by every script: the layouts of proxy/core/record.py and the store's clock.
local FORMAT = '\1'
local PENDING_MAX = 1024
local MARKER_BYTES = 33

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function u64(number) return struct.pack('>I8', number) end
local function read_u64(bytes, at) return (struct.unpack('>I8', bytes, at)) end

-- The state's letter, '' for nothing there, '?' for a format of another release.
local function state_of(record)
  if not record then return '' end
  if string.sub(record, 2, 2) ~= FORMAT then return '?' end
  local state = string.sub(record, 1, 1)
  return string.find('VLPT', state, 1, true) and state or '?'
end

local function hard_of(entry) return read_u64(entry, 51) end

-- An entry that may still be served by somebody: of this incarnation, not past its hard time.
local function usable(entry, incarnation)
  return #entry >= 67 and string.sub(entry, 3, 10) == incarnation and hard_of(entry) > now
end

-- An item's record is a string, or a hash: then the record is the field '', the other fields are the attributes of
-- the one entry in it, and there is always such an entry. Second reply: whether it is a hash.
local function read(key)
  local record = redis.pcall('GET', key)
  if type(record) ~= 'table' then return record, false end
  record = redis.pcall('HGET', key, '')
  return type(record) == 'string' and record or '?', true
end

-- Put a record in place of the present one. `attributes_stay`: the present one is a hash, and its entry is inside the
-- new one too. SET replaces a hash with all its fields.
local function put(key, record, lifetime_ms, attributes_stay)
  lifetime_ms = math.max(1, math.ceil(lifetime_ms))
  if attributes_stay then
    redis.call('HSET', key, '', record)
    redis.call('PEXPIRE', key, lifetime_ms)
  else
    redis.call('SET', key, record, 'PX', lifetime_ms)
  end
end

local function put_entry(key, entry, attributes_stay) put(key, entry, hard_of(entry) - now, attributes_stay) end

local function put_tombstone(key, tombstone_ms)
  put(key, 'T' .. FORMAT .. u64(now + tombstone_ms), tombstone_ms)
end

-- When upstream was asked, on this clock. Age alone would not do: a command that waited in the socket of a store
-- that stood still would make its item younger by as long as that.
local function filled_at(sent, age_ms) return math.min(now, sent) - age_ms end

-- Build and store an entry whose age counts from `filled`; false when it is already past its time. From ARGV[rest]:
-- for an entry that is to be a hash, 'hash', then name and text of each attribute (few enough to unpack).
local function put_new_entry(key, incarnation, generation, digest, filled, soft_ms, hard_ms, payload, rest)
  if filled + hard_ms <= now then return false end
  local entry = 'V' .. FORMAT .. incarnation .. generation .. digest
    .. u64(filled) .. u64(filled + soft_ms) .. u64(filled + hard_ms) .. payload
  if ARGV[rest] == 'hash' then
    redis.call('DEL', key) -- attributes of an older entry must not shine through
    redis.call('HSET', key, '', entry, unpack(ARGV, rest + 1))
    put_entry(key, entry, true)
  else
    put_entry(key, entry, false)
  end
  return true
end

-- L: incarnation, token, deadline, strong, kept entry.
local function read_lease(record)
  return string.sub(record, 3, 10), string.sub(record, 11, 26), read_u64(record, 27),
    string.sub(record, 35, 35), string.sub(record, 36)
end

-- P: markers in order of arrival, and the entry hidden under them ('' if none).
local function read_pending(record)
  local count = struct.unpack('>I2', record, 3)
  local markers = {}
  for i = 0, count - 1 do
    local at = 5 + i * MARKER_BYTES
    markers[#markers + 1] = {
      token = string.sub(record, at, at + 15),
      incarnation = string.sub(record, at + 16, at + 23),
      deadline = read_u64(record, at + 24),
      solo = string.sub(record, at + 32, at + 32) == '1',
    }
  end
  return markers, string.sub(record, 5 + count * MARKER_BYTES)
end

-- The tombstone's time is added: a P that died must still be seen as one (its write may be new).
local function put_pending(key, markers, hidden, tombstone_ms, is_hash)
  local parts = { 'P' .. FORMAT .. struct.pack('>I2', #markers) }
  local last = now
  for _, m in ipairs(markers) do
    parts[#parts + 1] = m.token .. m.incarnation .. u64(m.deadline) .. (m.solo and '1' or '0')
    last = math.max(last, m.deadline)
  end
  parts[#parts + 1] = hidden
  put(key, table.concat(parts), last - now + tombstone_ms, is_hash and hidden ~= '')
end
