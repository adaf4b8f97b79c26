"""Describe the settings of the store: where it is, how far it is trusted, bounds of the fence."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
)

from proxy.configuration.checks import (
    check_servers,
    check_store_url,
)
from proxy.configuration.section import Section
from proxy.core.policy import FencePolicy
from proxy.core.values import FailOver

StoreUrl = Annotated[str, AfterValidator(check_store_url)]
Servers = Annotated[tuple[str, ...], BeforeValidator(check_servers)]

_FENCE: Final = FencePolicy()


class Sentinel(Section):
    """Sentinels that know where the store's primary is; in the place of store.url."""

    addresses: Servers = Field(
        default=(),
        description="All sentinels, [HOST:PORT, …]; more than half of them must answer. Empty: the"
        " store has none.",
    )
    primary_name: str = Field(
        default="mymaster",
        pattern=r"^[A-Za-z0-9_.-]{1,128}$",
        description="What the sentinels call the primary.",
    )
    username: str | None = Field(
        default=None, description="User name for the sentinels; null is their default user."
    )
    password: SecretStr | None = Field(
        default=None,
        description="Password for the sentinels; best kept in the secret file"
        " store__sentinel__password.",
    )


class Cluster(Section):
    """A Redis or Valkey Cluster; in the place of store.url."""

    addresses: Servers = Field(
        default=(),
        description="Some of its nodes, [HOST:PORT, …]; they name all others. Empty: the store is"
        " no cluster.",
    )


class Store(Section):
    """The shared Redis/Valkey: one server (url), a primary that sentinels name, or a cluster."""

    url: StoreUrl | None = Field(
        default=None,
        repr=False,
        description="redis://HOST[:PORT][/DATABASE], rediss:// for TLS, or unix:///PATH; null"
        " caches nothing and passes everything through.",
    )
    username: str | None = Field(
        default=None, description="User name for the store; null is the store's default user."
    )
    password: SecretStr | None = Field(
        default=None,
        description="Password for the store; best kept in the secret file store__password.",
    )
    tls: bool = Field(
        default=False,
        description="Whether to use TLS with the servers of sentinel or cluster, the sentinels"
        " included; for url its scheme says so.",
    )
    ca_file: str | None = Field(
        default=None,
        pattern=r"^/",
        description="File with the certificates (PEM) that the store's must be signed by; null"
        " takes the system's authorities.",
    )
    sentinel: Sentinel = Field(default=Sentinel(), description=str(Sentinel.__doc__))
    cluster: Cluster = Field(default=Cluster(), description=str(Cluster.__doc__))
    namespace: str = Field(
        default="default",
        pattern=r"^[A-Za-z0-9_.-]{1,32}$",
        description="Prefix of every cache key; proxies that share a cache use the same one.",
    )
    timeout_s: float = Field(
        default=0.1,
        ge=0.001,
        le=10,
        description="Seconds for one round trip; the most that a silent store may add to a"
        " request before DynamoDB is asked.",
    )
    connect_timeout_s: float = Field(
        default=0.5, ge=0.01, le=30, description="Seconds to connect, TLS and AUTH included."
    )
    lanes: int = Field(
        default=2,
        ge=1,
        le=16,
        description="Connections to each server that share the commands by pipelining; two let one"
        " large reply pass beside the small ones.",
    )
    queue_max: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Commands waiting per lane at most; beyond it requests go to DynamoDB without"
        " the store.",
    )
    heartbeat_s: float = Field(
        default=1.0,
        ge=0.05,
        le=60,
        description="Seconds between two proofs that the connection still talks to a primary.",
    )
    heartbeat_age_s_max: float = Field(
        default=3.0,
        ge=0.1,
        le=300,
        description="Seconds a proof stays good; hits stop when it is older. Longer than"
        " heartbeat_s, so that one late proof costs nothing.",
    )
    quarantine_s: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="Seconds without hits and fills after the store's primary changed, at least"
        " fence.marker_s so that every write in flight has ended. 0 only for a store that nobody"
        " used before, such as the demo's.",
    )
    fail_over: FailOver = Field(
        default=FailOver.SAFE,
        description="After the store's primary changed, safe refuses writes to strict tables until"
        " no older primary can serve hits: heartbeat_age_s_max, and after a fail-over"
        " min-replicas-max-lag + 2 s more. available lets them go on: for that long a proxy that"
        " still sees the older primary may answer with the item from before.",
    )
    accept_unfit: bool = Field(
        default=False,
        description="Whether strict tables are served from a store that may lose acknowledged"
        " changes: one that evicts young markers, has replicas it does not wait for, does not tell,"
        " or has no quarantine. When false they bypass it.",
    )

    @property
    def is_named(self) -> bool:
        """Whether there is a store at all."""
        return self.url is not None or bool(self.sentinel.addresses or self.cluster.addresses)


class Breaker(Section):
    """When to stop asking a store that is out."""

    failures_to_open: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="Failures in a row after which requests no longer wait for the store.",
    )
    open_s: float = Field(
        default=1.0,
        ge=0.05,
        le=300,
        description="Seconds until one request tries the store again.",
    )


class Fence(Section):
    """Bounds of the coherence protocol; give every proxy of one store the same."""

    lease_s: float = Field(
        default=_FENCE.lease_s,
        ge=0.05,
        le=300,
        description="Seconds a proxy may take for a fill before another one may fill.",
    )
    lease_wait_s: float = Field(
        default=_FENCE.lease_wait_s,
        ge=0,
        le=300,
        description="Seconds a reader waits for another proxy's fill before it asks DynamoDB"
        " itself; at most lease_s.",
    )
    marker_s: float = Field(
        default=_FENCE.marker_s,
        ge=0.1,
        le=3600,
        description="Seconds a write of unknown outcome keeps its item out of the cache; longer"
        " than upstream.connect_timeout_s + upstream.write_timeout_s, or a write could take"
        " effect after its marker has gone.",
    )
    tombstone_s: float = Field(
        default=_FENCE.tombstone_s,
        ge=0.1,
        le=3600,
        description="Seconds after an invalidation in which a fill must read with ConsistentRead;"
        " longer than DynamoDB's replicas lag.",
    )
