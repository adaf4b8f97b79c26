-- What is known of one table's stream: its shards, their leases and checkpoints, and who reads. A hash: field '' the
-- stream's ARN after FORMAT, '!' when upstream is to be looked at next, '@' and a reader until when it is there, and one
-- field per shard (proxy/core/shard_tree.py says what they mean):
--   start 1, fence 8, holder 16 (zeros for nobody), deadline 8, as of 8, length of the parent's id 1, the id, sequence
-- ARGV: step, keep ms, and then
--   look:  reader or '', present ms, discover ms. Replies {now, 1 if the reader is to look at upstream, all fields}.
--   grow:  arn, the number of shards gone, their ids, then id, parent, start of each new one. Another ARN forgets all
--          shards; otherwise a new one begins at its horizon. Replies 1 where the stream is new, else 0.
--   claim: shard, reader, lease ms. Replies the shard's field where the reader has it now, else 0.
--   keep:  shard, reader, fence, lease ms (0 gives it back), as of (0: as before), start ('': as before), sequence.
--          Replies 1, or 0 to whoever is not the holder under that fence: nothing was kept.
local step, keep_ms = ARGV[1], ARGV[2]
local NOBODY = string.rep('\0', 16)

local function read_shard(field)
  local parent_bytes = string.byte(field, 42)
  return {
    start = string.sub(field, 1, 1),
    fence = read_u64(field, 2),
    holder = string.sub(field, 10, 25),
    deadline = read_u64(field, 26),
    as_of = read_u64(field, 34),
    parent = string.sub(field, 43, 42 + parent_bytes),
    sequence = string.sub(field, 43 + parent_bytes),
  }
end

local function put_shard(id, shard)
  local field = shard.start .. u64(shard.fence) .. shard.holder .. u64(shard.deadline) .. u64(shard.as_of)
    .. string.char(#shard.parent) .. shard.parent .. shard.sequence
  redis.call('HSET', KEYS[1], id, field)
  redis.call('PEXPIRE', KEYS[1], keep_ms)
  return field
end

local function get_shard(id)
  local field = redis.call('HGET', KEYS[1], id)
  return field and read_shard(field)
end

local steps = {}

function steps.look()
  local reader, due = ARGV[3], 0
  if reader ~= '' then
    redis.call('HSET', KEYS[1], '@' .. reader, u64(now + tonumber(ARGV[4])))
    local next_look = redis.call('HGET', KEYS[1], '!')
    if not next_look or read_u64(next_look, 1) <= now then
      redis.call('HSET', KEYS[1], '!', u64(now + tonumber(ARGV[5])))
      due = 1
    end
    redis.call('PEXPIRE', KEYS[1], keep_ms)
  end
  local fields = redis.call('HGETALL', KEYS[1])
  if reader ~= '' then
    for i = 1, #fields, 2 do -- readers that have gone
      if string.sub(fields[i], 1, 1) == '@' and read_u64(fields[i + 1], 1) <= now then
        redis.call('HDEL', KEYS[1], fields[i])
      end
    end
  end
  return { now, due, fields }
end

function steps.grow()
  local arn, gone = FORMAT .. ARGV[3], tonumber(ARGV[4])
  local is_new = redis.call('HGET', KEYS[1], '') ~= arn
  if is_new then
    for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
      local mark = string.sub(id, 1, 1)
      if mark ~= '@' and mark ~= '!' then redis.call('HDEL', KEYS[1], id) end
    end
    redis.call('HSET', KEYS[1], '', arn)
  end
  for i = 1, gone do
    if not is_new then redis.call('HDEL', KEYS[1], ARGV[4 + i]) end
  end
  for i = 5 + gone, #ARGV, 3 do
    local id, parent, start = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    if not get_shard(id) then
      -- What was applied before the parent's end was applied before the child's beginning.
      local before = not is_new and parent ~= '' and get_shard(parent)
      local done = is_new and start == 'E' -- all of it is older than the voiding of the table, which follows
      put_shard(id, {
        start = is_new and start or 'H', fence = 0, holder = NOBODY, deadline = 0,
        as_of = before and before.as_of or done and now or 0, parent = parent, sequence = '',
      })
    end
  end
  redis.call('PEXPIRE', KEYS[1], keep_ms)
  return is_new and 1 or 0
end

function steps.claim()
  local id, reader, lease_ms = ARGV[3], ARGV[4], tonumber(ARGV[5])
  local shard = get_shard(id)
  if not shard or shard.start == 'E' then return 0 end
  local parent = shard.parent ~= '' and get_shard(shard.parent)
  if parent and parent.start ~= 'E' then return 0 end
  if shard.deadline > now and shard.holder ~= reader then return 0 end
  if parent then shard.as_of = math.max(shard.as_of, parent.as_of) end -- it began after that
  shard.fence, shard.holder, shard.deadline = shard.fence + 1, reader, now + lease_ms
  return put_shard(id, shard)
end

function steps.keep()
  local id, shard = ARGV[3], get_shard(ARGV[3])
  if not shard or shard.holder ~= ARGV[4] or shard.fence ~= tonumber(ARGV[5]) then return 0 end
  local lease_ms, as_of = tonumber(ARGV[6]), tonumber(ARGV[7])
  if ARGV[8] ~= '' then shard.start, shard.sequence = ARGV[8], ARGV[9] end
  if as_of > 0 then shard.as_of = math.min(as_of, now) end
  shard.deadline = now + lease_ms
  if lease_ms == 0 then shard.holder, shard.deadline = NOBODY, 0 end
  put_shard(id, shard)
  return 1
end

return steps[step]()
