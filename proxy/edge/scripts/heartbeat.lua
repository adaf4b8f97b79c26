-- Prove that this connection talks to a primary and tell the time. ARGV: quarantine ms still to serve if nobody
-- has seen this incarnation yet, keep ms. Replies {now, ms until the gate opens (0 when open)}.
-- As a script that writes it is refused on replicas. The key is per incarnation: a gate that is open stays open.
local opens = tonumber(redis.call('GET', KEYS[1]) or '')
if not opens then opens = now + tonumber(ARGV[1]) end
redis.call('SET', KEYS[1], string.format('%.0f', opens), 'PX', ARGV[2])
return { now, math.max(0, opens - now) }
