"""The tables of the fake upstream: versioned items, lagging replicas, the operations tests need.

Shares no code with `proxy`, so that a mistake there is not repeated here. Time and lag are
scripted; what real DynamoDB does here is checked by `tests/contracts/test_dynamodb_contract.py`.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

Json = dict[str, Any]

VALIDATION = "com.amazon.coral.validate#ValidationException"
SERVICE = "com.amazonaws.dynamodb.v20120810#"
CORAL = "com.amazon.coral.service#"
KEY_MISMATCH = "The provided key element does not match the schema"
MISSING = "One or more parameter values were invalid"
READ_UNIT_BYTES = 4096


class DynamoError(Exception):
    """An error answer: HTTP status, `__type`, message."""

    def __init__(self, error_type: str, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"__type": error_type, "message": message}


@dataclass
class Version:
    """One state of an item since `at_s`; None is absence."""

    at_s: float
    item: Json | None


@dataclass
class Table:
    """One table: its key attributes in order, name to type, and each item's history."""

    name: str
    key_types: dict[str, str]
    local_indexes: tuple[str, ...] = ()
    table_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    histories: dict[tuple[object, ...], list[Version]] = field(default_factory=dict)

    def primary_key(self, attributes: Json, *, exact: bool) -> tuple[object, ...]:
        """Return the identity of an item; `exact` refuses attributes beside the key's."""
        if exact and set(attributes) != set(self.key_types):
            raise DynamoError(VALIDATION, KEY_MISMATCH)
        identity: list[object] = []
        for name, kind in self.key_types.items():
            if name not in attributes:
                raise DynamoError(VALIDATION, f"{MISSING}: Missing the key {name} in the item")
            content = attributes[name].get(kind)
            if content is None:
                text = KEY_MISMATCH if exact else f"{MISSING}: Type mismatch for key {name}"
                raise DynamoError(VALIDATION, text)
            identity.append(_number(content) if kind == "N" else content)
        return tuple(identity)

    def description(self) -> Json:
        """Return what DescribeTable shows."""
        kinds = ("HASH", "RANGE")
        return {
            "TableName": self.name,
            "TableId": self.table_id,
            "TableStatus": "ACTIVE",
            "TableArn": f"arn:aws:dynamodb:us-east-1:000000000000:table/{self.name}",
            "KeySchema": [
                {"AttributeName": name, "KeyType": kind}
                for name, kind in zip(self.key_types, kinds, strict=False)
            ],
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": kind}
                for name, kind in self.key_types.items()
            ],
            "LocalSecondaryIndexes": [{"IndexName": name} for name in self.local_indexes],
            "ItemCount": sum(1 for past in self.histories.values() if past[-1].item is not None),
            "ProvisionedThroughput": {"ReadCapacityUnits": 0, "WriteCapacityUnits": 0},
        }


class Tables:
    """All tables of one fake; `call` runs one operation at once and wholly.

    Args:
        now_s: the clock for `lag_s`.

    `lag_versions` and `lag_s` say how far eventually consistent reads look back; `applied` is told
    each write in the order they take effect.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._tables: dict[str, Table] = {}
        self._transacted: dict[str | None, Json] = {}
        self.lag_versions = 0
        self.lag_s = 0.0
        self.applied: Callable[[Table, tuple[object, ...], Json | None], None] = _nobody_listens
        self._operations: dict[str, Callable[[Json], Json]] = {
            "GetItem": self._get_item,
            "PutItem": self._put_item,
            "UpdateItem": self._update_item,
            "DeleteItem": self._delete_item,
            "BatchGetItem": self._batch_get_item,
            "BatchWriteItem": self._batch_write_item,
            "TransactWriteItems": self._transact_write_items,
            "Query": lambda body: self._page(body, self._condition(body)),
            "Scan": lambda body: self._page(body, None),
            "CreateTable": self._create_table,
            "DeleteTable": self._delete_table,
            "DescribeTable": lambda body: {"Table": self.table(body).description()},
            "ListTables": lambda _body: {"TableNames": sorted(self._tables)},
        }

    def add(self, name: str, **key_types: str) -> Table:
        """Make a table: `add("orders", pk="S", sk="N")`."""
        table = self._tables[name] = Table(name, key_types)
        return table

    def call(self, operation: str, body: Json) -> Json:
        """Run one operation; raises DynamoError as DynamoDB would answer."""
        if operation not in self._operations:
            raise DynamoError(CORAL + "UnknownOperationException", "")
        return self._operations[operation](body)

    def table(self, body: Json) -> Table:
        """Return the table a request names."""
        name = str(body.get("TableName", "")).rpartition("/")[2]
        if name not in self._tables:
            raise DynamoError(SERVICE + "ResourceNotFoundException", "Requested resource not found")
        return self._tables[name]

    def newest(self, table_name: str, primary_key: Json) -> Json | None:
        """Return an item as it is now, for checkers: without a request, without lag."""
        table = self._tables[table_name]
        past = table.histories.get(table.primary_key(primary_key, exact=True))
        return past[-1].item if past else None

    def _visible(self, table: Table, key: Json, *, consistent: bool) -> Json | None:
        past = table.histories.get(table.primary_key(key, exact=True), [])
        if not consistent:
            past = past[: max(0, len(past) - self.lag_versions)]
            past = [version for version in past if version.at_s <= self._now_s() - self.lag_s]
        return past[-1].item if past else None

    def _write(self, table: Table, identity: tuple[object, ...], item: Json | None) -> None:
        table.histories.setdefault(identity, []).append(Version(self._now_s(), item))
        self.applied(table, identity, item)

    def _current(self, table: Table, identity: tuple[object, ...]) -> Json | None:
        past = table.histories.get(identity)
        return past[-1].item if past else None

    def _get_item(self, body: Json) -> Json:
        table = self.table(body)
        if "ProjectionExpression" in body or "AttributesToGet" in body:
            raise DynamoError(VALIDATION, "the fake upstream has no projections")
        consistent = body.get("ConsistentRead") is True
        item = self._visible(table, body["Key"], consistent=consistent)
        reply: Json = {} if item is None else {"Item": item}
        if body.get("ReturnConsumedCapacity", "NONE") != "NONE":
            units = max(1, -(-len(str(item)) // READ_UNIT_BYTES)) * (1.0 if consistent else 0.5)
            reply["ConsumedCapacity"] = {"TableName": table.name, "CapacityUnits": units}
        return reply

    def _put_item(self, body: Json) -> Json:
        table = self.table(body)
        identity = table.primary_key(body["Item"], exact=False)
        old = self._current(table, identity)
        _check(body, old)
        self._write(table, identity, body["Item"])
        return _returned(body, old, body["Item"], ())

    def _delete_item(self, body: Json) -> Json:
        table = self.table(body)
        identity = table.primary_key(body["Key"], exact=True)
        old = self._current(table, identity)
        _check(body, old)
        if old is not None:
            self._write(table, identity, None)
        return _returned(body, old, None, ())

    def _update_item(self, body: Json) -> Json:
        table = self.table(body)
        identity = table.primary_key(body["Key"], exact=True)
        old = self._current(table, identity)
        _check(body, old)
        changes = _changes(body, old or {})
        new = {**(old or body["Key"]), **changes}
        self._write(table, identity, new)
        return _returned(body, old, new, tuple(changes))

    def _condition(self, body: Json) -> tuple[str, Json]:
        """Evaluate a KeyConditionExpression `a = :v`, whatever key `a` is of."""
        name, _, placeholder = (
            part.strip() for part in body["KeyConditionExpression"].partition("=")
        )
        return _name(body, name), body["ExpressionAttributeValues"][placeholder]

    def _page(self, body: Json, wanted: tuple[str, Json] | None) -> Json:
        """Return the items that match, by primary key, all on one page."""
        table, index = self.table(body), body.get("IndexName")
        consistent = body.get("ConsistentRead") is True
        if consistent and index is not None and index not in table.local_indexes:
            raise DynamoError(VALIDATION, "Consistent reads are not supported on this index")
        newest = (
            next((old.item for old in past[::-1] if old.item), {})
            for past in table.histories.values()
        )
        keys = [{name: item[name] for name in table.key_types} for item in newest]
        found = [self._visible(table, key, consistent=consistent) for key in keys]
        items = [
            item for item in found if item and (not wanted or item.get(wanted[0]) == wanted[1])
        ]
        items.sort(key=lambda item: [str(item[name]) for name in table.key_types])
        reply: Json = {"Items": items, "Count": len(items), "ScannedCount": len(items)}
        if body.get("ReturnConsumedCapacity", "NONE") != "NONE":
            units = max(1, -(-len(str(items)) // READ_UNIT_BYTES)) * (1.0 if consistent else 0.5)
            reply["ConsumedCapacity"] = {"TableName": table.name, "CapacityUnits": units}
        return reply

    def _batch_get_item(self, body: Json) -> Json:
        responses: Json = {}
        for name, wanted in body["RequestItems"].items():
            table = self.table({"TableName": name})
            consistent = wanted.get("ConsistentRead") is True
            items = [self._visible(table, key, consistent=consistent) for key in wanted["Keys"]]
            responses[name] = [item for item in items if item is not None]
        return {"Responses": responses, "UnprocessedKeys": {}}

    def _batch_write_item(self, body: Json) -> Json:
        for name, writes in body["RequestItems"].items():
            for write in writes:
                if "PutRequest" in write:
                    self._put_item({"TableName": name, **write["PutRequest"]})
                else:
                    self._delete_item({"TableName": name, **write["DeleteRequest"]})
        return {"UnprocessedItems": {}}

    def _transact_write_items(self, body: Json) -> Json:
        token = body.get("ClientRequestToken")
        if token is not None and self._transacted.setdefault(token, body) is not body:
            return {}  # a repetition, which writes nothing
        parts = [next(iter(action.items())) for action in body["TransactItems"]]
        reasons: list[Json] = []
        for _, part in parts:
            table = self.table(part)
            exact = "Key" in part
            key = table.primary_key(part["Key"] if exact else part["Item"], exact=exact)
            try:
                _check(part, self._current(table, key))
                reasons.append({"Code": "None"})
            except DynamoError as error:
                reasons.append({"Code": "ConditionalCheckFailed", "Message": str(error)})
        if any(reason["Code"] != "None" for reason in reasons):
            self._transacted.pop(token, None)
            cancelled = DynamoError(SERVICE + "TransactionCanceledException", "cancelled")
            cancelled.body["CancellationReasons"] = reasons
            raise cancelled
        write = {"Put": self._put_item, "Update": self._update_item, "Delete": self._delete_item}
        for kind, part in parts:
            if kind in write:
                write[kind](part)
        return {}

    def _create_table(self, body: Json) -> Json:
        if body["TableName"] in self._tables:
            text = f"Table already exists: {body['TableName']}"
            raise DynamoError(SERVICE + "ResourceInUseException", text)
        kinds = {a["AttributeName"]: a["AttributeType"] for a in body["AttributeDefinitions"]}
        names = [part["AttributeName"] for part in body["KeySchema"]]
        table = self.add(body["TableName"], **{name: kinds[name] for name in names})
        return {"TableDescription": table.description()}

    def _delete_table(self, body: Json) -> Json:
        table = self._tables.pop(self.table(body).name)
        return {"TableDescription": {**table.description(), "TableStatus": "DELETING"}}


def _nobody_listens(_table: Table, _identity: tuple[object, ...], _item: Json | None) -> None:
    """Take no notice."""


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        message = f"The parameter cannot be converted to a numeric value: {text}"
        raise DynamoError(VALIDATION, message) from None


def _check(body: Json, old: Json | None) -> None:
    """Evaluate `attribute_exists(a)`, `attribute_not_exists(a)` or `a = :v`."""
    condition = body.get("ConditionExpression")
    if condition is None:
        return
    item = old or {}
    if function := re.fullmatch(r"(attribute_(?:not_)?exists)\(\s*(\S+?)\s*\)", condition.strip()):
        met = (_name(body, function[2]) in item) == (function[1] == "attribute_exists")
    else:
        name, _, placeholder = (part.strip() for part in condition.partition("="))
        met = item.get(_name(body, name)) == body["ExpressionAttributeValues"][placeholder]
    if met:
        return
    shown = body.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" and old is not None
    refusal = DynamoError(
        SERVICE + "ConditionalCheckFailedException", "The conditional request failed"
    )
    if shown:
        refusal.body["Item"] = old
    raise refusal


def _changes(body: Json, old: Json) -> Json:
    """Evaluate `SET a = :v, b = b + :n`: top-level attributes only."""
    expression = body.get("UpdateExpression", "").strip()
    if not expression:
        return {}
    verb, _, clauses = expression.partition(" ")
    if verb.upper() != "SET":
        raise DynamoError(VALIDATION, "the fake upstream only knows SET")
    given = body.get("ExpressionAttributeValues", {})
    changes: Json = {}
    for clause in clauses.split(","):
        target, _, source = (part.strip() for part in clause.partition("="))
        left, _, right = (part.strip() for part in source.partition("+"))
        term = given[left] if left.startswith(":") else old[_name(body, left)]
        if right:
            term = {"N": str(_number(term["N"]) + _number(given[right]["N"]))}
        changes[_name(body, target)] = term
    return changes


def _name(body: Json, written: str) -> str:
    return str(body["ExpressionAttributeNames"][written]) if written.startswith("#") else written


def _returned(body: Json, old: Json | None, new: Json | None, changed: tuple[str, ...]) -> Json:
    wish = body.get("ReturnValues", "NONE")
    shown = (old if wish.endswith("OLD") else new) if wish != "NONE" else None
    if shown is not None and wish.startswith("UPDATED"):
        shown = {name: shown[name] for name in changed if name in shown}
    return {"Attributes": shown} if shown else {}
