"""Judges a hit by what DynamoDB says: was it right, was it stale, or can nobody tell?

The auditor (`proxy.flow.auditor`) takes three looks, strictly one after the other:

    1. the hit: entry E answers a read.
    2. the audit read: a ConsistentRead returns X.
    3. the second lookup: the store says what it would serve now.

X like E is a MATCH. X unlike E is STALE only if look 3 finds E itself, in all its times, and E may
still be served. Whatever else look 3 finds is INCONCLUSIVE. The orders that a write W of X by way
of a proxy can have, and why none of them is taken for STALE:

W before 1
    W ended before E was filled: X is E. (W ended after E was filled: end left no E for look 1.)
W begins before 2, ends after 3
    Look 3 finds W's marker: nothing is served. The same if W died or its outcome is unknown.
W begins and ends between 1 and 3
    Look 3 finds a tombstone, nothing, W's own entry, or a newer fill: each is another entry than E.
    E comes back only from a write that changed nothing, so X is not of that write.
W begins after 2
    It cannot be what look 2 saw.
A write of the whole table, or one that this process owes the store
    The first raises the table's generation, under which E does not count; after the second this
    process does not ask the store, so what it would serve is nothing.

So STALE means that somebody's write passed no fence that the store knows of, or that the fence
failed. The change may be younger than the hit: it came somewhere between E's filling and look 2,
so E's age at look 3 is an upper bound of how long E has been wrong.

Two entries of one item with the same times could be taken for one if the item went from E to X and
back, and was filled twice, all in the one millisecond that the store's clock tells apart. Two
writes and two reads of DynamoDB in between take longer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from proxy.core.attributes import NotCanonical, canonical_number
from proxy.core.json_text import NotJson
from proxy.core.record import Entry
from proxy.core.values import AuditResult, Digest, Verdict

_MARK_BYTES: Final = 8
_SETS: Final = frozenset({"SS", "NS", "BS"})
_SERVABLE: Final = frozenset({Verdict.FRESH, Verdict.GRACE, Verdict.LAST_RESORT, Verdict.TOO_OLD})


@dataclass(frozen=True, slots=True)
class Finding:
    """What an audit found: with STALE, `age_s` is the longest that the entry can be wrong."""

    result: AuditResult
    age_s: float = 0.0


def judge(served: Entry, now: Entry | None, verdict: Verdict, store_now_ms: int) -> Finding:
    """Judge a hit that DynamoDB contradicts.

    Args:
        served: the entry that answered.
        now: what a lookup after the audit read found to serve, or None.
        verdict: of that lookup: may it be served?
        store_now_ms: the store's clock at that lookup.
    """
    if now != served or verdict not in _SERVABLE:
        return Finding(AuditResult.INCONCLUSIVE)
    age_s = max(0, store_now_ms - served.filled_ms) / 1000
    return Finding(AuditResult.STALE, age_s)


def same_answer(one: bytes, other: bytes) -> bool | None:
    """Tell whether two answers to one read say the same; None when they cannot be read.

    Of no account are the capacity that they report, how numbers are spelled, the order of members
    and in sets, and the order of a batch's items.
    """
    if one == other:
        return True
    try:
        return _answer(one) == _answer(other)
    except (ValueError, RecursionError):
        return None


def mark_of(digest: Digest, secret: bytes) -> str:
    """Return what tells items apart in the log and says nothing else: nobody keeps the secret."""
    return blake2b(digest, digest_size=_MARK_BYTES, key=secret).hexdigest()


def _answer(body: bytes) -> object:
    answer = json.loads(body)
    if not isinstance(answer, dict):
        raise NotJson("not an object")
    answer.pop("ConsumedCapacity", None)
    tables = answer.get("Responses")
    if isinstance(tables, dict):
        answer["Responses"] = {name: _unordered(items) for name, items in tables.items()}
    return _plain(answer)


def _unordered(items: list[Any]) -> list[str]:
    return sorted(json.dumps(_plain(item), sort_keys=True) for item in items)


def _plain(node: Any) -> Any:
    """Spell what is equal to DynamoDB in one way.

    A member N with text, or a set's name with a list, stands for an attribute value only: an
    attribute of that name has an object for its value.
    """
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, dict):
        return node
    if len(node) == 1:
        ((kind, content),) = node.items()
        if kind == "N" and isinstance(content, str):
            return {kind: _number(content)}
        if kind in _SETS and isinstance(content, list):
            return {kind: sorted(_number(each) if kind == "NS" else each for each in content)}
    return {name: _plain(content) for name, content in node.items()}


def _number(text: str) -> str:
    try:
        return canonical_number(text)
    except NotCanonical:
        return text
