"""Describe every setting except those of tables: name, default, bounds, meaning and reason.

The description of a setting stands here and nowhere else: config/default.yaml, README's table
and config/schema.json are made from it. Every number has both bounds.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from proxy.configuration.checks import (
    check_endpoint,
    check_host_port,
    check_servers,
    check_store_url,
    split_host_port,
)
from proxy.core.policy import FencePolicy

HostPort = Annotated[str, AfterValidator(check_host_port)]
Endpoint = Annotated[str, AfterValidator(check_endpoint)]
StoreUrl = Annotated[str, AfterValidator(check_store_url)]
Servers = Annotated[tuple[str, ...], BeforeValidator(check_servers)]

_FENCE: Final = FencePolicy()
_NUMBERS: Final = (int, float, int | None)


class Section(BaseModel):
    """Base of all sections: frozen, no unknown names, no infinite numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def refuse_truth_for_number(cls, given: Any, info: ValidationInfo) -> Any:
        """Refuse `true` where a number is meant: pydantic would read it as 1."""
        field = cls.model_fields[str(info.field_name)]
        if isinstance(given, bool) and field.annotation in _NUMBERS:
            raise ValueError("must be a number, not true or false")
        return given


class Listen(Section):
    """Addresses that this process serves."""

    data: HostPort = Field(
        default="127.0.0.1:8111",
        description="Address for SDKs, HOST:PORT; port 0 chooses a free one. Loopback, because"
        " whoever reaches it acts with this process's AWS credentials.",
    )
    ops: HostPort = Field(
        default="0.0.0.0:8112",
        description="Address of metrics and probes, HOST:PORT. All interfaces, because"
        " Prometheus and the kubelet come from outside the pod.",
    )

    @property
    def data_address(self) -> tuple[str, int]:
        """Host, without brackets, and port of the data listener."""
        return split_host_port(self.data)

    @property
    def ops_address(self) -> tuple[str, int]:
        """Host, without brackets, and port of the ops listener."""
        return split_host_port(self.ops)


class Upstream(Section):
    """DynamoDB, and how long to wait for it."""

    endpoint: Endpoint | None = Field(
        default=None,
        description="Endpoint of DynamoDB, http(s)://HOST[:PORT]; null is AWS's own of the region."
        " AWS_ENDPOINT_URL is not read: it points the SDK at this proxy.",
    )
    region: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9-]{1,64}$",
        description="AWS region to sign for; null takes AWS_REGION, then AWS_DEFAULT_REGION, then"
        " the active profile's, and us-east-1 when an endpoint is given.",
    )
    connect_timeout_s: float = Field(
        default=1.0,
        ge=0.01,
        le=60,
        description="Seconds to open a connection; DynamoDB in the same region takes milliseconds.",
    )
    read_timeout_s: float = Field(
        default=5.0,
        ge=0.05,
        le=300,
        description="Seconds for the whole exchange of a read, so that an SDK's own time-out"
        " rarely comes first.",
    )
    write_timeout_s: float = Field(
        default=_FENCE.write_timeout_s,
        ge=0.05,
        le=300,
        description="Seconds for the whole exchange of a write; longer than for a read, because"
        " giving up leaves its outcome unknown and its item uncached for fence.marker_s.",
    )
    connections_max: int = Field(
        default=256,
        ge=1,
        le=65536,
        description="Open connections to DynamoDB at most; at 5 ms per request 256 carry 50,000"
        " requests a second.",
    )
    idle_s: float = Field(
        default=20.0,
        ge=1,
        le=3600,
        description="Seconds an idle connection is kept; short, so that we close it before DynamoDB"
        " does and no request meets a closing connection.",
    )


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


class Http(Section):
    """The listener for SDKs."""

    body_bytes_max: int = Field(
        default=16 * 1024 * 1024,
        ge=1024,
        le=1024 * 1024 * 1024,
        description="Bytes of a request's body at most; 16 MiB is DynamoDB's own limit.",
    )
    bodies_bytes_max: int = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        le=64 * 1024 * 1024 * 1024,
        description="Bytes of all request bodies in flight together at most; beyond it requests get"
        " 503 and are retried. Room for four of the largest or thousands of the usual ones.",
    )
    header_bytes_max: int = Field(
        default=32 * 1024,
        ge=1024,
        le=1024 * 1024,
        description="Bytes of one header field at most; session tokens are long.",
    )
    keepalive_s: float = Field(
        default=75.0,
        ge=1,
        le=3600,
        description="Seconds an idle client connection stays open; longer than most SDKs keep"
        " theirs, so that they close first.",
    )
    drain_s: float = Field(
        default=20.0,
        ge=0,
        le=3600,
        description="Seconds that requests in flight get after SIGTERM; shorter than Kubernetes'"
        " grace of 30.",
    )
    connections_max: int = Field(
        default=4096,
        ge=1,
        le=1_000_000,
        description="Client connections at most; bounds file descriptors. What they hold is"
        " bounded by bodies_bytes_max.",
    )
    cross_origin: bool | None = Field(
        default=None,
        description="Whether web pages may call this proxy from a browser (requests with an Origin"
        " field): they would act with this process's AWS credentials. null allows it only when"
        " upstream.endpoint is on loopback, a local engine with nothing to protect.",
    )
    cache_status: bool = Field(
        default=True,
        description="Whether answers carry Cache-Status (RFC 9211), which says hit or why not.",
    )
    server_name: str = Field(
        default="Server",
        pattern=r"^[!-~]([ -~]{0,62}[!-~])?$",
        description="Server header of the proxy's own answers; the default is what DynamoDB sends.",
    )


class Limits(Section):
    """Bounds on what this process keeps in memory."""

    flights_max: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Fetches in flight at most; beyond it reads pass through uncached.",
    )
    debts_max: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Writes remembered while the store is out at most; each is replayed later.",
    )
    metric_tables_max: int = Field(
        default=100,
        ge=1,
        le=10_000,
        description='Table names used as metric labels at most; further ones become "other".',
    )


class Log(Section):
    """The log on standard output."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severity that is written."
    )
    format: Literal["json", "console"] = Field(
        default="json", description="json for machines, console for people."
    )
