"""What one connection knows of the server it talks to: its incarnation, its clock, its gate.

*Incarnation*: hash of the primary's `run_id` and `master_replid`. `run_id` changes at every start,
`master_replid` also at every promotion, so a value that a fail-over or an old snapshot brought back
never counts again. In a cluster, a node's configuration epoch names it too: the node gets a new one
whenever it takes over a slot and its own is not the newest of all already. So an entry that left
this node with its slot, and came back with it, does not count: it may have been invalidated on a
node that lost the invalidation in a fail-over. (Source: Redis Cluster specification, "Configuration
epoch"; resharding raises it at `CLUSTER SETSLOT … NODE`.)

*Gate*: a new incarnation may have lost the markers of writes that are still on their way to
DynamoDB. It serves nothing until the longest of them must have ended: the quarantine.

*Settled*: an older primary, cut off from its replicas, may serve hits for a while after another was
promoted. Once its replicas were silent for too long (`StoreTraits.old_primary_s`) it takes no
writes, heartbeats among them, and hits need a heartbeat younger than `heartbeat_age_s_max`. Until
both have passed, a write acknowledged here could be missing in a hit there.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from proxy.core.errors import StoreFailure, StoreUnavailable
from proxy.core.store_fitness import StoreTraits
from proxy.core.values import INCARNATION_BYTES, Incarnation

_NEVER_PROMOTED: Final = "0" * 40
# INFO rounds the uptime to seconds: count one less.
_UPTIME_ROUNDING_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The parts of `INFO server replication stats memory` that the protocol stands on.

    Args:
        incarnation: names this server as primary since its start or promotion.
        primary_for_s: how long at least it has been the primary; 0 when it was ever promoted,
            since a promotion has no time stamp, and in a cluster, since a slot's coming has none.
        evicted_total: keys evicted for space since its start.
        traits: what its fitness for `strict` hangs on.
    """

    incarnation: Incarnation
    primary_for_s: float
    evicted_total: int
    traits: StoreTraits


def parse_info(
    info: bytes, cluster: bytes | None = None, *, lag_s_max: float | None = None
) -> ServerInfo:
    """Read the reply of `INFO server replication stats memory`.

    Args:
        info: that reply.
        cluster: of a cluster's node, the reply of `CLUSTER INFO`.
        lag_s_max: `min-replicas-max-lag`, which is in no INFO; None where CONFIG is denied.

    Raises:
        StoreUnavailable: the server is a replica, or does not say who it is.
    """
    fields = info_fields(info)
    if fields.get("role") != "master":
        raise StoreUnavailable(StoreFailure.REFUSED, "the store's server is not a primary")
    identity = f"{fields.get('run_id', '')}:{fields.get('master_replid', '')}"
    if len(identity) == 1:
        raise StoreUnavailable(StoreFailure.REFUSED, "the store hides its run_id and master_replid")
    if cluster is not None:
        if (epoch := info_fields(cluster).get("cluster_my_epoch")) is None:
            raise StoreUnavailable(StoreFailure.REFUSED, "the node hides its configuration epoch")
        identity += f":{epoch}"
    promoted = fields.get("master_replid2", _NEVER_PROMOTED) != _NEVER_PROMOTED
    uptime_s = float(fields.get("uptime_in_seconds", 0)) - _UPTIME_ROUNDING_S
    digest = blake2b(identity.encode(), digest_size=INCARNATION_BYTES).digest()
    return ServerInfo(
        incarnation=Incarnation(digest),
        primary_for_s=0.0 if promoted or cluster is not None else max(0.0, uptime_s),
        evicted_total=int(fields.get("evicted_keys", 0)),
        traits=StoreTraits(
            memory_bytes_max=_number(fields.get("maxmemory")),
            eviction=fields.get("maxmemory_policy"),
            replicas=_number(fields.get("connected_slaves")),
            # Shown only while min-replicas-to-write is in force.
            replicas_awaited="min_slaves_good_slaves" in fields,
            promoted=promoted,
            lag_s_max=lag_s_max,
        ),
    )


def parse_lag(reply: object) -> float | None:
    """Read the reply of `CONFIG GET min-replicas-max-lag`; None for an error."""
    if isinstance(reply, dict):
        reply = [word for pair in reply.items() for word in pair]
    if not isinstance(reply, list) or len(reply) != len(("name", "content")):
        return None
    return _number(reply[1].decode("utf-8", "replace"))


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def info_fields(reply: bytes) -> dict[str, str]:
    """Return the fields of `INFO`, or of `CLUSTER INFO`."""
    lines = reply.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


@dataclass(frozen=True, slots=True)
class PrimaryView:
    """The last heartbeat of one connection.

    Args:
        incarnation: of the server that answered it.
        sent_s: monotonic time at which the heartbeat was sent: the proof is no younger.
        received_s: monotonic time at which its answer was there.
        store_ms: the store's clock in the answer.
        gate_in_s: seconds from then until hits and fills are allowed; 0 when they are, infinite
            when this heartbeat cannot tell.
        settles_in_s: seconds from then until no older primary can serve hits.
    """

    incarnation: Incarnation
    sent_s: float
    received_s: float
    store_ms: int
    gate_in_s: float
    settles_in_s: float = 0.0

    def store_now_ms(self, now_s: float) -> int:
        """Return the store's clock, never earlier than it is: counted from before the request."""
        return self.store_ms + int((now_s - self.sent_s) * 1000) + 1

    def store_passed_ms(self, now_s: float) -> int:
        """Return a time that the store's clock has reached for sure: counted from the answer."""
        return self.store_ms + int((now_s - self.received_s) * 1000)

    def gate_open(self, now_s: float) -> bool:
        """Tell whether the quarantine is over.

        A heartbeat that said "closed" is enough to open the gate when its time has come, counted
        from before it was sent plus the whole remaining time.
        """
        return self._is_over(self.gate_in_s, now_s)

    def settled(self, now_s: float) -> bool:
        """Tell whether no older primary can serve hits any more, anywhere."""
        return self._is_over(self.settles_in_s, now_s)

    def _is_over(self, rest_s: float, now_s: float) -> bool:
        return rest_s <= 0 or now_s - self.sent_s > rest_s + 1

    def proven(self, now_s: float, age_s_max: float) -> bool:
        """Tell whether the proof of talking to a primary is young enough for hits."""
        return now_s - self.sent_s <= age_s_max
