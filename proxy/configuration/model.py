"""Hold all settings as one frozen value, and list the name of every one of them."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from proxy.configuration.checks import is_loopback
from proxy.configuration.near_section import Near
from proxy.configuration.section import Section
from proxy.configuration.sections import Audit, Http, Limits, Listen, Log, Upstream
from proxy.configuration.store_sections import Breaker, Fence, Store
from proxy.configuration.streams_section import Streams
from proxy.configuration.tables import (
    TABLE_NAME_PATTERN,
    KeySchema,
    Table,
    TableRules,
    resolve_policy,
)
from proxy.core.policy import FencePolicy, NearPolicy, TablePolicy
from proxy.core.values import Mode, TableName

Path = tuple[str, ...]
"""Where a setting stands, from the outermost section inwards: `("store", "url")`."""

ANY_TABLE: Final = "*"
"""Stands for a table's name in `SETTINGS` and `SECTIONS`."""


class Settings(Section):
    """Every setting of a process. Build it with `proxy.settings.load_settings`, which checks it."""

    listen: Listen = Field(default=Listen(), description=str(Listen.__doc__))
    upstream: Upstream = Field(default=Upstream(), description=str(Upstream.__doc__))
    store: Store = Field(default=Store(), description=str(Store.__doc__))
    near: Near = Field(default=Near(), description=str(Near.__doc__))
    breaker: Breaker = Field(default=Breaker(), description=str(Breaker.__doc__))
    fence: Fence = Field(default=Fence(), description=str(Fence.__doc__))
    defaults: TableRules = Field(default=TableRules(), description="Rules for every table.")
    tables: dict[Annotated[str, Field(pattern=TABLE_NAME_PATTERN)], Table] = Field(
        default={},
        description="Rules of single tables, by table name: any of `defaults`, and key_schema"
        " (names and types of the partition and sort key), streams and stream_arn.",
    )
    streams: Streams = Field(default=Streams(), description=str(Streams.__doc__))
    audit: Audit = Field(default=Audit(), description=str(Audit.__doc__))
    http: Http = Field(default=Http(), description=str(Http.__doc__))
    limits: Limits = Field(default=Limits(), description=str(Limits.__doc__))
    log: Log = Field(default=Log(), description=str(Log.__doc__))
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that share the data port; one per core that the proxy may use.",
    )

    def fence_policy(self) -> FencePolicy:
        """Return the bounds of the coherence protocol."""
        return FencePolicy(
            lease_s=self.fence.lease_s,
            lease_wait_s=self.fence.lease_wait_s,
            marker_s=self.fence.marker_s,
            tombstone_s=self.fence.tombstone_s,
            write_timeout_s=self.upstream.write_timeout_s,
        )

    def near_policy(self) -> NearPolicy:
        """Return the bounds of this process's own copies of entries."""
        return self.near.policy(self.workers)

    def policy_of(self, table: str) -> TablePolicy:
        """Return a table's policy: one dictionary access, made for every request."""
        return self.policies.get(TableName(table), self.default_policy)

    def with_modes(self, modes: Mapping[TableName, tuple[Mode, float]]) -> Settings:
        """Return the same settings with other modes, and percentages of keys, of some tables."""
        given = self.model_dump(exclude_unset=True)
        tables = given.get("tables", {})
        for table, (mode, percent) in modes.items():
            tables[table] = {**tables.get(table, {}), "mode": mode, "mode_percent": percent}
        return Settings.model_validate({**given, "tables": tables}) if modes else self

    @property
    def cross_origin_allowed(self) -> bool:
        """Whether requests that web pages make from a browser are served."""
        if self.http.cross_origin is not None:
            return self.http.cross_origin
        endpoint = self.upstream.endpoint
        return endpoint is not None and is_loopback(urlsplit(endpoint).hostname or "")

    @cached_property
    def default_policy(self) -> TablePolicy:
        """The policy of every table without a section of its own."""
        return resolve_policy(self.defaults)

    @cached_property
    def policies(self) -> Mapping[TableName, TablePolicy]:
        """The policies of the tables that have a section of their own."""
        return {
            TableName(name): resolve_policy(self.defaults, table)
            for name, table in self.tables.items()
        }

    @cached_property
    def streamed(self) -> Mapping[TableName, str | None]:
        """The tables whose streams are read, each with its stream's ARN if that was given."""
        return {
            TableName(name): table.stream_arn
            for name, table in self.tables.items()
            if table.streams
        }

    @cached_property
    def key_schemas(self) -> Mapping[TableName, KeySchema]:
        """The key schemas that the operator gave."""
        return {
            TableName(name): table.key_schema
            for name, table in self.tables.items()
            if table.key_schema is not None
        }


def _fields_below(model: type[BaseModel], path: Path) -> Iterator[tuple[Path, FieldInfo, bool]]:
    """Yield every field with its path and whether it is a section."""
    for name, field in model.model_fields.items():
        inner = [
            part
            for part in (field.annotation, *typing.get_args(field.annotation))
            if isinstance(part, type) and issubclass(part, BaseModel)
        ]
        yield (*path, name), field, bool(inner)
        if typing.get_origin(field.annotation) is dict:
            yield (*path, name, ANY_TABLE), field, True
            yield from _fields_below(inner[0], (*path, name, ANY_TABLE))
        elif inner:
            yield from _fields_below(inner[0], (*path, name))


_FIELDS: Final = tuple(_fields_below(Settings, ()))

SETTINGS: Final[Mapping[Path, FieldInfo]] = {
    p: field for p, field, section in _FIELDS if not section
}
"""Every single setting, in the order of config/default.yaml."""

SECTIONS: Final[Mapping[Path, FieldInfo]] = {
    path: field for path, field, is_section in _FIELDS if is_section
}
"""Every section: what holds settings and has no value of its own."""


def general(path: Path) -> Path:
    """Replace a table's name by `ANY_TABLE`, so that the path can be found in `SETTINGS`."""
    named = len(path) > 1 and path[0] == "tables"
    return ("tables", ANY_TABLE, *path[2:]) if named else path


def dotted(path: Path) -> str:
    """Return a setting's name as people write it: `store.url`."""
    return ".".join(path)
