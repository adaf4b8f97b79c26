"""What the scripts must not lose: each rule, its text, and the text without the rule."""

from __future__ import annotations

from typing import Final, NamedTuple


class Mutant(NamedTuple):
    """A script that has lost one rule."""

    step: str
    claim: str
    rule: str
    without: str

    def __str__(self) -> str:
        return f"{self.step}: {self.claim}"


MUTANTS: Final = [
    Mutant(
        "lease",
        "a write in flight forbids it",
        "if m.deadline > now then return",
        "if false then return",
    ),
    Mutant("lease", "strong after writers that died", "  strong = '1' --", "  strong = '0' --"),
    Mutant("lease", "strong after a tombstone", "> now and '1' or '0'", "> now and '0' or '0'"),
    Mutant(
        "lease",
        "another's lease is waited for",
        "holder == incarnation and deadline > now",
        "false",
    ),
    Mutant(
        "lease",
        "a lease of another incarnation is void",
        "holder == incarnation and deadline > now",
        "deadline > now",
    ),
    Mutant("lease", "strong is inherited", "strong, kept = was_strong, older", "kept = older"),
    Mutant(
        "lease",
        "the kept entry is inherited",
        "strong, kept = was_strong, older",
        "strong = was_strong",
    ),
    Mutant("lease", "a fresh entry is a hit", "and not force then", "and false then"),
    Mutant("lease", "force takes it over a fresh entry", "and not force then", "then"),
    Mutant("lease", "an entry in grace is no hit", "read_u64(record, 43) > now", "true"),
    Mutant("lease", "an entry is kept", "  kept = record", "  kept = ''"),
    Mutant(
        "lease",
        "a kept entry is of this generation",
        "string.sub(entry, 11, 18) == generation",
        "true",
    ),
    Mutant("lease", "a kept entry is of this item", "string.sub(entry, 19, 34) == digest", "true"),
    Mutant(
        "lease", "the record outlives a strong lease", "lease_ms + tombstone_ms or", "lease_ms or"
    ),
    Mutant(
        "lease",
        "the record lives as long as the kept entry",
        "math.max(lifetime_ms, hard_of(kept) - now)",
        "lifetime_ms",
    ),
    Mutant(
        "lease",
        "another release's record is a write in flight",
        "if state == '?' then",
        "if false then",
    ),
    Mutant("fill", "only over a lease", "if state_of(record) ~= 'L' then return 0 end", ""),
    Mutant("fill", "only over my own lease", " or token ~= ARGV[2]", ""),
    Mutant("fill", "only over a lease of this incarnation", "holder ~= ARGV[1] or ", ""),
    Mutant("fill", "age counts", "tonumber(ARGV[6]))", "0)"),
    Mutant("fill", "nothing past its time", "if filled + hard_ms <= now then return false end", ""),
    Mutant("release", "only my own lease", " or token ~= ARGV[2]", ""),
    Mutant(
        "release", "the kept entry comes back", "if usable(kept, ARGV[1]) then", "if false then"
    ),
    Mutant("release", "strong stays strong", "elseif strong == '1' then", "elseif false then"),
    Mutant("begin", "others lose solo", "    m.solo = false\n", ""),
    Mutant(
        "begin",
        "I am not solo among others",
        "  markers, solo, hidden = live, false, ''",
        "  markers, hidden = live, ''",
    ),
    Mutant(
        "begin",
        "what was hidden is dropped among others",
        "  markers, solo, hidden = live, false, ''",
        "  markers, solo = live, false",
    ),
    Mutant("begin", "not solo while the gate is closed", "ARGV[4] == '1'", "true"),
    Mutant("begin", "an entry is hidden", "  hidden = record", "  hidden = ''"),
    Mutant("begin", "a kept entry is hidden", "  hidden = kept", "  hidden = ''"),
    Mutant(
        "begin",
        "only a usable entry is hidden",
        "if not usable(hidden, incarnation) then",
        "if false then",
    ),
    Mutant(
        "begin",
        "not solo over another release's record",
        "  solo = false -- perhaps",
        "  -- perhaps",
    ),
    Mutant("begin", "again moves the deadline", "      m.deadline = deadline", "      -- nothing"),
    Mutant("begin", "has a bound", "if #live >= PENDING_MAX then return 0 end", ""),
    Mutant("begin", "writers that died make room", "if m.deadline > now then", "if true then"),
    Mutant("begin", "a dead marker is still seen", "last - now + tombstone_ms", "last - now"),
    Mutant("end", "others in flight stay", "if live then", "if false then"),
    Mutant(
        "end",
        "others in flight lose solo",
        "  for _, m in ipairs(others) do m.solo = false end",
        "",
    ),
    Mutant("end", "a lost marker leaves a tombstone", "if not mine then", "if false then"),
    Mutant("end", "only solo stores", "if mine.solo and", "if"),
    Mutant(
        "end", "only the incarnation it began in stores", " and mine.incarnation == incarnation", ""
    ),
    Mutant("end", "an aborted write restores", "outcome == 'A' and usable", "false and usable"),
    Mutant("end", "only a usable entry is restored", "usable(hidden, incarnation)", "#hidden > 0"),
    Mutant("end", "only an aborted write restores", "outcome == 'A' and ", ""),
    Mutant(
        "end",
        "leaves a tombstone",
        "put_tombstone(KEYS[1], tombstone_ms)\nreturn 'invalidated'",
        "redis.call('DEL', KEYS[1])\nreturn 'invalidated'",
    ),
    Mutant(
        "invalidate", "writers in flight stay", "if state_of(record) == 'P' then", "if false then"
    ),
    Mutant("invalidate", "writers in flight lose solo", "m.solo = false", ""),
    Mutant(
        "invalidate",
        "what was hidden is dropped",
        "markers, '', tonumber",
        "markers, select(2, read_pending(record)), tonumber",
    ),
    Mutant(
        "invalidate",
        "leaves a tombstone",
        "put_tombstone(KEYS[1], tonumber(ARGV[1]))",
        "redis.call('DEL', KEYS[1])",
    ),
    Mutant(
        "lease",
        "a kept entry's attributes stay",
        "lifetime_ms, is_hash and kept ~= '')",
        "lifetime_ms, false)",
    ),
    Mutant(
        "lease",
        "attributes go with an entry that does not count",
        "lifetime_ms, is_hash and kept ~= '')",
        "lifetime_ms, is_hash)",
    ),
    Mutant(
        "lease",
        "a hit brings its attributes",
        "is_hash and redis.call('HGETALL', KEYS[1]) or nil",
        "nil",
    ),
    Mutant(
        "fill",
        "attributes of an older entry go",
        "redis.call('DEL', key) -- attributes",
        "-- attributes",
    ),
    Mutant(
        "fill",
        "an entry is as old as its item",
        "math.min(now, sent) - age_ms",
        "now - age_ms",
    ),
    Mutant("fill", "no entry is from the future", "math.min(now, sent) - age_ms", "sent - age_ms"),
    Mutant("fill", "a hash gets its attributes", "entry, unpack(ARGV, rest + 1))", "entry)"),
    Mutant(
        "fill",
        "a hash expires with its entry",
        "redis.call('PEXPIRE', key, lifetime_ms)",
        "",
    ),
    Mutant("release", "reads hashes", "and record or '?', true", "and '?', true"),
    Mutant("release", "a kept entry's attributes stay", "kept, is_hash)", "kept, false)"),
    Mutant("begin", "a hidden entry's attributes stay", "is_hash and hidden ~= '')", "false)"),
    Mutant(
        "begin",
        "attributes go with an entry that is not hidden",
        "is_hash and hidden ~= '')",
        "is_hash)",
    ),
    Mutant("end", "a restored entry's attributes stay", "hidden, is_hash)", "hidden, false)"),
    Mutant(
        "scope",
        "learning clears writers that died",
        "counts and not dead and not announces",
        "counts and not announces",
    ),
    Mutant("scope", "a dead writer raises", "if dead or remakes or", "if remakes or"),
    Mutant("scope", "an end raises", "generation, 5) + 1)", "generation, 5))"),
    Mutant("scope", "an end keeps the stamp", "string.sub(generation, 1, 4) ..", "'abcd' .."),
    Mutant("scope", "a remake voids the stamp", "remakes = step == 'remake'", "remakes = false"),
    Mutant(
        "scope",
        "an abort without marker raises",
        "(ends and not mine)",
        "(step == 'end' and not mine)",
    ),
    Mutant(
        "scope",
        "an end without marker voids the stamp",
        "(ends and not mine)",
        "(step == 'abort' and not mine)",
    ),
    Mutant(
        "scope",
        "an abort with marker does not raise",
        "(ends and not mine)",
        "(step == 'abort')",
    ),
    Mutant(
        "scope",
        "a writer puts a marker",
        "markers[#markers + 1] = token .. u64(now + marker_ms)",
        "",
    ),
    Mutant(
        "scope",
        "other writers stay",
        "elseif read_u64(record, at + 16) > now then",
        "elseif false then",
    ),
    Mutant("scope", "has a bound", "if #markers >= PENDING_MAX then return 0 end", ""),
    Mutant(
        "scope",
        "pages wait for a marker's time",
        "pages_from = now + marker_ms",
        "pages_from = now",
    ),
    Mutant("scope", "who announces first counts", "and pages_from == 0", ""),
    Mutant("scope", "announcing changes a settled record", " and not announces then", " then"),
    Mutant("scope", "pages stay announced", "read_u64(record, 27)", "0"),
    Mutant(
        "scope",
        "a record of another incarnation does not count",
        "string.sub(record, 3, 10) == incarnation",
        "true",
    ),
    Mutant(
        "scope",
        "writes in flight count in every incarnation",
        "local count = struct.unpack('>I2', record, 59)",
        "local count = counts and struct.unpack('>I2', record, 59) or 0",
    ),
    Mutant("scope", "a check is due after the interval", "if left > 0 then return left end", ""),
    Mutant("scope", "a claim is dated", "  checked = now", ""),
    Mutant("scope", "a check stays claimed", "read_u64(record, 51)", "0"),
    Mutant("scope", "a table keeps its id", "string.sub(record, 35, 50)", "UNKNOWN"),
    Mutant("scope", "the same table changes nothing", "if id == ARGV[7] then return 0 end", ""),
    Mutant("scope", "another table voids everything", "id ~= UNKNOWN or", ""),
    Mutant(
        "scope",
        "a table unknown for long voids everything",
        " or now - raised > tonumber(ARGV[8])",
        "",
    ),
    Mutant(
        "scope",
        "a table unknown for a moment voids nothing",
        "now - raised > tonumber(ARGV[8])",
        "true",
    ),
    Mutant("scope", "an id is remembered", "  id = ARGV[7]", ""),
    Mutant(
        "scope",
        "nobody claims another release's table",
        "if step == 'due' then return tonumber(ARGV[7]) end",
        "",
    ),
    Mutant(
        "scope",
        "another release's table is left to it",
        "if step == 'identify' then return 0 end",
        "",
    ),
    Mutant(
        "scope",
        "a raise is dated",
        "struct.pack('>I4', count), now",
        "struct.pack('>I4', count), raised",
    ),
    Mutant(
        "scope", "fresh bytes are dated", "generation, raised = fresh, now", "generation = fresh"
    ),
    Mutant("scope", "a table's record stays", "if keep_ms == 0 then", "if false then"),
    Mutant(
        "scope",
        "a scope's record ends by itself",
        "written, 'PX', keep_ms + marker_ms)",
        "written)",
    ),
    Mutant("scope", "a scope's record outlives its markers", "keep_ms + marker_ms)", "keep_ms)"),
    Mutant(
        "scope",
        "a scope nobody wrote to stays",
        " and before ~= generation",
        "",
    ),
    Mutant(
        "scope", "a scope with writers in flight stays", "ends and #markers == 0 and", "ends and"
    ),
    Mutant(
        "scope", "a scope that was learned stays", "elseif ends and #markers", "elseif #markers"
    ),
]
