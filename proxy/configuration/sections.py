"""Describe every setting except those of tables: name, default, bounds, meaning and reason.

The description of a setting stands here and nowhere else: config/default.yaml, README's table
and config/schema.json are made from it. Every number has both bounds.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from proxy.configuration.checks import (
    check_endpoint,
    check_host_port,
    split_host_port,
)
from proxy.configuration.section import Section
from proxy.core.policy import AuditPolicy, FencePolicy

HostPort = Annotated[str, AfterValidator(check_host_port)]
Endpoint = Annotated[str, AfterValidator(check_endpoint)]

_AUDIT: Final = AuditPolicy()


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
        default=FencePolicy().write_timeout_s,
        ge=0.05,
        le=300,
        description="Seconds for the whole exchange of a write; longer than for a read, because"
        " giving up leaves its outcome unknown and its item uncached for fence.marker_s.",
    )
    table_check_s: float = Field(
        default=10.0,
        ge=0,
        le=3600,
        description="Seconds between two looks, by one proxy of the store, at whether a table was"
        " deleted and made anew past every proxy; needs dynamodb:DescribeTable. 0 never looks:"
        " entries of the older table live as long as any.",
    )
    connections_max: int = Field(
        default=256,
        ge=1,
        le=65536,
        description="Open connections to DynamoDB at most; at 5 ms per request 256 carry 50,000"
        " requests a second.",
    )
    waiting_max: int = Field(
        default=1024,
        ge=0,
        le=1_000_000,
        description="Requests that may wait for one of these connections, each within its own"
        " time-out; one more gets 503 at once, which SDKs retry.",
    )
    idle_s: float = Field(
        default=20.0,
        ge=1,
        le=3600,
        description="Seconds an idle connection is kept; short, so that we close it before DynamoDB"
        " does and no request meets a closing connection.",
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
    fast_door: bool = Field(
        default=True,
        description="Whether hits that this process holds itself are answered as their bytes"
        " arrive, past the HTTP library. Answers are the same either way; it is tried at each start"
        " and stays shut where the library is not what it was made for.",
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


class Audit(Section):
    """The comparison of hits with DynamoDB in the background, which measures what is promised."""

    share: float = Field(
        default=_AUDIT.share,
        ge=0,
        le=1,
        description="Share of hits, 0 to 1, that are compared with a ConsistentRead of the same"
        " item; 0 for none. At 1 in 1,000 it costs 0.1 % of the read capacity that hits save,"
        " twice over where clients read eventually consistently.",
    )
    reads_per_s_max: float = Field(
        default=_AUDIT.reads_per_s_max,
        ge=0.001,
        le=100_000,
        description="Comparisons a second at most, in each process; further ones are dropped.",
    )
    read_units_per_s_max: float = Field(
        default=_AUDIT.read_units_per_s_max,
        ge=0.001,
        le=100_000,
        description="Read capacity units a second that comparisons may take at most, in each"
        " process; further ones are dropped.",
    )
    concurrency_max: int = Field(
        default=_AUDIT.concurrency_max,
        ge=1,
        le=1000,
        description="Comparisons under way at most; further ones are dropped.",
    )

    def policy(self) -> AuditPolicy:
        """Return the bounds as the flows take them."""
        return AuditPolicy(**self.model_dump())


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
    plans_bytes_max: int = Field(
        default=16 * 1024 * 1024,
        ge=0,
        le=1024 * 1024 * 1024,
        description="Bytes of remembered GetItem requests, about 1.3 KB each: those asked for again"
        " need not be parsed again. 0 remembers none.",
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
