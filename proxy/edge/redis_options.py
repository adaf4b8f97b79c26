"""What the settings say of the store, as its connections take it."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.core.values import FailOver
from proxy.edge.redis_connection import Access, Address
from proxy.edge.redis_lane import LaneLimits
from proxy.edge.redis_sentinel import SentinelOptions


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How to reach the store and how far to trust it. Times in seconds.

    Args:
        url: `redis://`, `rediss://` or `unix://`, where the store is one server.
        limits: bounds of each lane.
        username, password: for the store's servers; override what the URL says.
        lanes: shared connections to each server; 0 when there is no store at all.
        heartbeat_s: how often each connection proves that it talks to a primary.
        heartbeat_age_s_max: hits stop when the last proof is older.
        quarantine_s: how long an incarnation nobody has seen before serves nothing, beside the
            time that an older primary may have taken writes; 0 for no quarantine at all.
        fail_over: whether strict writes wait for a new primary to be the only one.
        fitness_demanded: whether some table is `strict` and its operator takes no risk.
        tls: whether servers that are not named by a URL speak TLS.
        ca_file: certificates to trust instead of the system's.
        sentinel: who knows where the primary is, instead of a URL.
        cluster: some nodes of the cluster, instead of a URL; they know the others.
    """

    url: str
    limits: LaneLimits
    username: str | None = None
    password: str | None = None
    lanes: int = 2
    heartbeat_s: float = 1.0
    heartbeat_age_s_max: float = 3.0
    quarantine_s: float = 30.0
    fail_over: FailOver = FailOver.SAFE
    fitness_demanded: bool = True
    tls: bool = False
    ca_file: str | None = None
    sentinel: SentinelOptions | None = None
    cluster: tuple[Address, ...] = ()

    @property
    def unsettled_s(self) -> float:
        """How long hits of an older primary go on, once it takes no writes any more."""
        return min(self.heartbeat_age_s_max, self.quarantine_s)

    @property
    def access(self) -> Access:
        """How the store's servers let us in."""
        timeout_s = self.limits.connect_timeout_s
        return Access(self.username, self.password, self.tls, self.ca_file, timeout_s)
