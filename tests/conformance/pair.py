"""An engine, a proxy in front of it, and the tables that both sides share."""

from __future__ import annotations

import http.client
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support.dynamo_wire import Call, Json, Reply, ask
from tests.support.proxy_process import RunningProxy

ENGINES: Final = ("dynamodb", "dynalite")

KEYS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "hash": (("pk", "S"),),
    "through": (("pk", "S"),),
    "doomed": (("pk", "S"),),
    "range": (("pk", "S"), ("sk", "N")),
    "number": (("pk", "N"),),
    "binary": (("pk", "B"),),
}
"""Logical table to its key schema."""

THROUGH: Final = ("through", "doomed")
"""Tables that are written through, the others invalidate; `doomed` is deleted and recreated."""

INDEX: Final[Json] = {
    "IndexName": "by-kind",
    "KeySchema": [{"AttributeName": "kind", "KeyType": "HASH"}],
    "Projection": {"ProjectionType": "ALL"},
    "ProvisionedThroughput": {"ReadCapacityUnits": 100, "WriteCapacityUnits": 100},
}


TRIES_MAX: Final = 2000


@dataclass(frozen=True)
class Pair:
    """Both ways to the same tables.

    Args:
        engine: one of ENGINES.
        direct: the engine's endpoint.
        proxy: the proxy in front of it.
        names: logical table name to the real one.
    """

    engine: str
    direct: str
    proxy: RunningProxy
    names: Mapping[str, str] = field(repr=False)

    def ask_engine(self, call: Call) -> Reply:
        """Ask the engine itself."""
        return ask(self.direct, call.naming(self.names))

    def ask_proxy(self, call: Call) -> Reply:
        """Ask through the proxy."""
        return ask(self.proxy.endpoint, call.naming(self.names))

    def put(self, table: str, item: Json) -> None:
        """Put an item behind the proxy's back."""
        reply = self.ask_engine(Call("PutItem", {"TableName": f"${table}", "Item": item}))
        assert reply.status == 200, reply.content


def new_names() -> dict[str, str]:
    """Return logical names with real ones that nobody else uses."""
    mark = uuid.uuid4().hex[:8]
    return {logical: f"c-{mark}-{logical}" for logical in KEYS}


def table_definition(name: str, keys: tuple[tuple[str, str], ...], **more: Any) -> Json:
    """Return a CreateTable request; provisioned, because one engine knows nothing else of old."""
    kinds = ("HASH", "RANGE")
    definition: Json = {
        "TableName": name,
        "AttributeDefinitions": [
            {"AttributeName": attribute, "AttributeType": kind} for attribute, kind in keys
        ],
        "KeySchema": [
            {"AttributeName": attribute, "KeyType": kind}
            for (attribute, _), kind in zip(keys, kinds, strict=False)
        ],
        "ProvisionedThroughput": {"ReadCapacityUnits": 1000, "WriteCapacityUnits": 1000},
    }
    return definition | more


def create_table(endpoint: str, definition: Json) -> None:
    """Create a table and wait until it serves."""
    created = Call("CreateTable", definition)
    until(endpoint, created, lambda reply: reply.status == http.client.OK)  # deletion takes time
    shown = Call("DescribeTable", {"TableName": definition["TableName"]})
    until(endpoint, shown, lambda reply: reply.content["Table"]["TableStatus"] == "ACTIVE")


def until(endpoint: str, call: Call, holds: Callable[[Reply], bool]) -> None:
    """Repeat a call until its answer is as wanted; AssertionError shows the last one."""
    reply = ask(endpoint, call)
    for _ in range(TRIES_MAX):
        if holds(reply):
            return
        reply = ask(endpoint, call)
    raise AssertionError(f"{call.operation}: {reply.content}")


def create_tables(endpoint: str, names: Mapping[str, str]) -> None:
    """Create every table of KEYS."""
    for logical, keys in KEYS.items():
        definition = table_definition(names[logical], keys)
        if logical == "range":
            kind = {"AttributeName": "kind", "AttributeType": "S"}
            definition["AttributeDefinitions"].append(kind)
            definition["GlobalSecondaryIndexes"] = [INDEX]
        create_table(endpoint, definition)
