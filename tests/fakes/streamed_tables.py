"""The tables of the fake upstream with their streams: which write leaves which record.

Shares no code with `proxy`, as `Tables`; `tests/contracts/test_streams_contract.py` holds it to
what an engine with Streams does.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.fakes.fake_stream import FakeStream
from tests.fakes.fake_stream_records import VIEW_TYPES, Change
from tests.fakes.fake_streams import TARGET_PREFIX, FakeStreams
from tests.fakes.fake_upstream_tables import VALIDATION, DynamoError, Json, Table, Tables

INVALID = "One or more parameter values were invalid: "
STEPS = frozenset(
    {"split", "roll_over", "trim", "disable", "hold", "release", "hide_new_shards", "show_shards"}
)


class StreamedTables(Tables):
    """All tables of one fake, and their streams.

    Args:
        now_s: the clock for `lag_s`.
        wall_s: the clock that dates streams, records and iterators.
    """

    def __init__(
        self,
        now_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(now_s)
        self.streams = FakeStreams(wall_s)
        self._latest: dict[str, FakeStream] = {}
        self._operations |= {
            "CreateTable": self._create_streamed,
            "UpdateTable": self._update_table,
            "DeleteTable": self._delete_streamed,
            "DescribeTable": lambda body: {"Table": self._described(self.table(body))},
        }

    def serve(self, target: str, body: Json) -> Json:
        """Run one operation of either service, named as in X-Amz-Target; see `call`."""
        service = self.streams if target.startswith(TARGET_PREFIX) else self
        return service.call(target.rpartition(".")[2], body)

    def stream(self, table_name: str) -> FakeStream:
        """Return the latest stream of a table, which may be off."""
        return self._latest[table_name]

    def enable_stream(self, table_name: str, view_type: str = "NEW_AND_OLD_IMAGES") -> FakeStream:
        """Turn the stream of a table on: a new one, with an ARN of its own."""
        shown = self.table({"TableName": table_name}).description()
        stream = self.streams.open(table_name, shown["TableArn"], shown["KeySchema"], view_type)
        self._latest[table_name] = stream
        return stream

    def expire(self, table_name: str, primary_key: Json) -> None:
        """Delete an item as DynamoDB does when its time to live is over."""
        table = self.table({"TableName": table_name})
        identity = table.primary_key(primary_key, exact=True)
        old = self._current(table, identity)
        if old is not None:
            super()._write(table, identity, None)
            self._leave(table, identity, Change(primary_key, old, None, by_time_to_live=True))

    def command(self, order: Json) -> None:
        """Obey one order about a table's stream.

        Shape: {"table": "t", "enable": "KEYS_ONLY"}, {"table": "t", "step": "split"} with any of
        STEPS, {"refuse": "GetRecords", "error": "LimitExceededException", "times": 2},
        {"relent": true}, {"expire_iterators": true}, {"lag_s": 0.5} for streams to come and, with
        a table, its own.
        """
        if "enable" in order:
            self.enable_stream(order["table"], order["enable"])
        if (step := order.get("step")) in STEPS:
            getattr(self.stream(order["table"]), step)()
        if "lag_s" in order:
            self.streams.lag_s = order["lag_s"]
            if "table" in order:
                self.stream(order["table"]).lag_s = order["lag_s"]
        if "refuse" in order:
            error, times = order.get("error", "LimitExceededException"), order.get("times", 1)
            self.streams.refuse(order["refuse"], error, times=times)
        if order.get("relent"):
            self.streams.relent()
        if order.get("expire_iterators"):
            self.streams.expire_iterators()

    def _write(self, table: Table, identity: tuple[object, ...], item: Json | None) -> None:
        old = self._current(table, identity)
        super()._write(table, identity, item)
        shown = item or old
        if shown is not None and old != item:  # what changes nothing leaves no record
            keys = {name: shown[name] for name in table.key_types}
            self._leave(table, identity, Change(keys, old, item))

    def _leave(self, table: Table, identity: tuple[object, ...], change: Change) -> None:
        stream = self._latest.get(table.name)
        if stream is not None:
            stream.append(identity[0], change)

    def _described(self, table: Table) -> Json:
        shown = table.description()
        stream = self._latest.get(table.name)
        if stream is not None:
            shown |= {"LatestStreamArn": stream.arn, "LatestStreamLabel": stream.label}
            if stream.status == "ENABLED":
                specification = {"StreamEnabled": True, "StreamViewType": stream.view_type}
                shown["StreamSpecification"] = specification
        return shown

    def _create_streamed(self, body: Json) -> Json:
        view_type = _wished(body.get("StreamSpecification", {"StreamEnabled": False}))
        super()._create_table(body)
        if view_type is not None:
            self.enable_stream(body["TableName"], view_type)
        return {"TableDescription": self._described(self.table(body))}

    def _update_table(self, body: Json) -> Json:
        table = self.table(body)
        if "StreamSpecification" not in body:
            raise DynamoError(VALIDATION, "the fake upstream only updates StreamSpecification")
        view_type = _wished(body["StreamSpecification"])
        stream = self._latest.get(table.name)
        is_on = stream is not None and stream.status == "ENABLED"
        if view_type is not None:
            if is_on:
                text = f"Table already has an enabled stream: TableName: {table.name}"
                raise DynamoError(VALIDATION, text)
            self.enable_stream(table.name, view_type)
        elif stream is None or not is_on:
            raise DynamoError(
                VALIDATION, f"Table has no stream to disable: TableName: {table.name}"
            )
        else:
            stream.disable()
        return {"TableDescription": self._described(table)}

    def _delete_streamed(self, body: Json) -> Json:
        shown = self._described(self.table(body))
        super()._delete_table(body)
        stream = self._latest.pop(shown["TableName"], None)
        if stream is not None:
            stream.disable()
        return {"TableDescription": {**shown, "TableStatus": "DELETING"}}


def _wished(specification: Json) -> str | None:
    """Return the view type of a stream that shall be on, None of one that shall be off."""
    view_type = specification.get("StreamViewType")
    if not specification["StreamEnabled"]:
        if view_type is not None:
            text = "If stream is being disabled, then UpdateViewType must not be specified"
            raise DynamoError(VALIDATION, INVALID + text)
        return None
    if view_type is None:
        text = "If stream is being enabled then UpdateViewType is required"
        raise DynamoError(VALIDATION, INVALID + text)
    if view_type not in VIEW_TYPES:
        raise DynamoError(VALIDATION, f"{INVALID}no such view type: {view_type}")
    return str(view_type)
