"""Plans requests under policies that tables' names stand for."""

from __future__ import annotations

import json
from typing import Any

from proxy.core.cache_key import KeySpace
from proxy.core.plan import (
    Plan,
    make_plan,
)
from proxy.core.policy import QueryPolicy, TablePolicy
from proxy.core.request import ClientRequest, Headers
from proxy.core.values import (
    Level,
    Mode,
    WriteMode,
)

KEYS = KeySpace("shop", "eu-west-1")
KEY = {"pk": {"S": "a"}}
GET: dict[str, Any] = {"TableName": "orders", "Key": KEY}
POLICIES = {
    "off": TablePolicy(mode=Mode.OFF),
    "around": TablePolicy(write_mode=WriteMode.AROUND),
    "around-too": TablePolicy(write_mode=WriteMode.AROUND),
    "strict": TablePolicy(level=Level.STRICT),
    "consistent-passes": TablePolicy(consistent_refresh=False),
    "pages": TablePolicy(queries=QueryPolicy(enabled=True, scans=True)),
}
DATA, STREAMS, LEGACY = "DynamoDB_20120810.", "DynamoDBStreams_20120810.", "DynamoDB_20111205."


def policy_of(table: str) -> TablePolicy:
    """Return the policy that a table's name stands for; others have the defaults."""
    return POLICIES.get(table, TablePolicy())


def plan(
    operation: str,
    body: dict[str, Any] | bytes,
    *,
    prefix: str = DATA,
    method: str = "POST",
    target: str = "/",
    headers: Headers = (),
) -> Plan:
    """Plan a request of this operation."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = (("X-Amz-Target", prefix + operation), *headers)
    request = ClientRequest(method, target, fields, raw)
    return make_plan(request, KEYS, policy_of)
