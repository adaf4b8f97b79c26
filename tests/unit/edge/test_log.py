"""Claims of proxy.edge.log."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import structlog

from proxy.core.errors import StoreFailure, UpstreamFailure
from proxy.core.store_fitness import Flaw
from proxy.core.stream_answers import StreamTrouble
from proxy.core.stream_records import GapReason, PoisonReason, RecordResult
from proxy.core.tally import LatencyTally
from proxy.core.values import (
    AuditResult,
    BypassReason,
    FenceResult,
    FillResult,
    Level,
    Mode,
    Outcome,
    ShadowResult,
    TableCheck,
    TableName,
)
from proxy.edge.log import EventLog, configure, logger
from proxy.flow import events

ORDERS = TableName("orders")

SILENT: list[events.Event] = [
    events.StreamRecordsApplied(ORDERS, RecordResult.SAME, 3),
    events.RequestAnswered("GetItem", ORDERS, Outcome.BYPASS, BypassReason.DEBT, 200, 0.001),
    events.HitsAnswered(ORDERS, Outcome.HIT, 0.5, LatencyTally()),
    events.BatchItemsAnswered(ORDERS, Outcome.HIT, 3),
    events.CapacitySaved(ORDERS, 1.0),
    events.CapacityConsumed(ORDERS, 1.0),
    events.FillEnded(ORDERS, FillResult.REFUSED),
    events.RefreshEnded(ORDERS, replaced=False),
    events.UpstreamAnswered("GetItem", ORDERS, 400, throttled=True, elapsed_s=0.01),
    events.StoreAnswered("lookup", 0.0002),
    events.StoreLookedUp(LatencyTally()),
    events.StoreFailed("lookup", StoreFailure.TIMEOUT),
    events.StoreConnections(1, 1),
    events.StoreEvictions(5),
    events.AuditEnded(ORDERS, AuditResult.STALE),
    events.ShadowCompared(ORDERS, ShadowResult.DIFFER),
]
NOTEWORTHY: list[tuple[events.Event, str, str]] = [
    (events.TableChecked(ORDERS, TableCheck.REMADE), "warning", "table is another one"),
    (events.TableChecked(ORDERS, TableCheck.UNKNOWN), "warning", "table cannot be described"),
    (events.FenceEnded(ORDERS, FenceResult.LOST), "warning", "fence marker lost"),
    (
        events.StaleFound(ORDERS, Level.STRICT, 1.23456, "0a1b", in_shadow=False),
        "error",
        "stale entry found",
    ),
    (events.ModeSwitched(ORDERS, Mode.OFF, 100.0), "warning", "mode switched"),
    (events.StreamGap(ORDERS, GapReason.LOST), "warning", "table voided"),
    (events.StreamTroubled(ORDERS, StreamTrouble.DENIED), "warning", "stream trouble"),
    (events.StreamParked(ORDERS, PoisonReason.NO_KEYS, 0), "error", "stream record parked"),
    (
        events.StreamLagMoved(ORDERS, over=True),
        "warning",
        "table is too far behind its stream",
    ),
    (
        events.UpstreamSilent("GetItem", ORDERS, UpstreamFailure.TIMEOUT),
        "warning",
        "upstream silent",
    ),
    (events.StoreServing(serving=False, why="heartbeat old"), "warning", "store not serving"),
    (events.StoreDetour(), "warning", "store connections go the slower way"),
    (events.StoreFitness((Flaw.EVICTION,), demanded=True), "error", "store flawed"),
    (events.BreakerMoved("open"), "warning", "store breaker opened"),
    (events.DebtsChanged(2), "warning", "writes owed to the store"),
    (events.CredentialsChanged("sts", "no answer"), "error", "credentials failing"),
    (events.InvariantViolated("read_path"), "error", "invariant violated"),
]


class Output(io.StringIO):
    """What was written, as parsed JSON lines."""

    def lines(self) -> list[dict[str, Any]]:
        """Return every line so far."""
        return [json.loads(line) for line in self.getvalue().splitlines()]

    def events(self) -> list[str]:
        """Return the `event` field of every line so far."""
        return [line["event"] for line in self.lines()]


class Time:
    """A monotonic clock set by hand."""

    now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Give the process its log configuration back."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers, root.level = before
    structlog.reset_defaults()


@pytest.fixture
def output() -> Output:
    """A log configured as JSON at the lowest level."""
    out = Output()
    configure("debug", "json", stream=out)
    return out


@pytest.fixture
def clock() -> Time:
    """A clock that stands still until the test moves it."""
    return Time()


@pytest.fixture
def event_log(output: Output, clock: Time) -> EventLog:
    """A subscriber writing to `output`."""
    return EventLog(logger("events"), clock.monotonic_s, quiet_s=10.0)


def test_the_tables_cover_every_event() -> None:
    """Each event type is either noteworthy or silent."""
    silent = {type(event) for event in SILENT}
    noteworthy = {type(event) for event, _, _ in NOTEWORTHY}
    assert silent | noteworthy == set(get_args(events.Event))
    assert not silent & noteworthy


@pytest.mark.parametrize("event", SILENT, ids=lambda event: type(event).__name__)
def test_ordinary_events_write_no_line(
    event: events.Event, event_log: EventLog, output: Output
) -> None:
    """What happens with each request is for the metrics, not for the log."""
    event_log.on_event(event)
    assert output.getvalue() == ""


@pytest.mark.parametrize("row", NOTEWORTHY, ids=lambda row: type(row[0]).__name__)
def test_noteworthy_events_write_one_line(
    row: tuple[events.Event, str, str], event_log: EventLog, output: Output
) -> None:
    """Each noteworthy event writes its line, with level, time and the logger's name."""
    event, level, text = row
    event_log.on_event(event)
    (line,) = output.lines()
    assert (line["event"], line["level"], line["logger"]) == (text, level, "events")
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("result", [r for r in FenceResult if r is not FenceResult.LOST])
def test_only_a_lost_marker_is_news_of_a_fence(
    result: FenceResult, event_log: EventLog, output: Output
) -> None:
    """Every other end of a fence is ordinary."""
    event_log.on_event(events.FenceEnded(ORDERS, result))
    assert output.lines() == []


def test_a_table_that_stayed_is_no_news(event_log: EventLog, output: Output) -> None:
    """It is looked at every few seconds."""
    event_log.on_event(events.TableChecked(ORDERS, TableCheck.SAME))
    assert output.lines() == []


def test_store_serving_is_written_on_change_only(event_log: EventLog, output: Output) -> None:
    """Serving, serving again, not serving for two reasons: a line for each piece of news."""
    told = [(True, "gate open"), (True, "gate open"), (False, "heartbeat old"), (False, "refused")]
    for serving, why in told:
        event_log.on_event(events.StoreServing(serving=serving, why=why))
    assert [(line["event"], line["why"]) for line in output.lines()] == [
        ("store serving", "gate open"),
        ("store not serving", "heartbeat old"),
        ("store not serving", "refused"),
    ]


def test_a_detour_is_written_once(event_log: EventLog, output: Output) -> None:
    """Every connection of the process goes the same way."""
    for _ in range(2):
        event_log.on_event(events.StoreDetour())
    assert len(output.lines()) == 1


def test_each_flaw_of_the_store_says_what_it_costs_and_who_must_act(
    event_log: EventLog, output: Output
) -> None:
    """An error where strict tables bypass the store for it; its end is told too, fitness is not."""
    both = (Flaw.EVICTION, Flaw.LAG_UNKNOWN)
    for event in (
        events.StoreFitness((), demanded=True),
        events.StoreFitness(both, demanded=True),
        events.StoreFitness(both, demanded=False),
        events.StoreFitness((), demanded=True),
        events.StoreFitness((), demanded=True),
    ):
        event_log.on_event(event)
    *flaws, healed = output.lines()
    told = [(line["level"], line["flaw"], line["strict_bypassed"]) for line in flaws]
    assert told == [
        ("error", "eviction", True),
        ("warning", "lag-unknown", False),
        ("warning", "eviction", False),
        ("warning", "lag-unknown", False),
    ]
    assert "maxmemory-policy" in flaws[0]["advice"]
    assert (healed["event"], healed["level"]) == ("store without flaws", "info")


def test_a_flapping_breaker_writes_only_its_ends(event_log: EventLog, output: Output) -> None:
    """An outage of any length is one line when it begins and one when it ends."""
    for state in ("closed", "open", "probing", "open", "probing", "closed"):
        event_log.on_event(events.BreakerMoved(state))
    assert output.events() == ["store breaker opened", "store breaker closed"]


def test_debts_are_written_when_they_appear_and_when_they_are_settled(
    event_log: EventLog, output: Output
) -> None:
    """Numbers in between are for the metrics."""
    for debts in (0, 1, 5, 2, 0, 0):
        event_log.on_event(events.DebtsChanged(debts))
    assert output.events() == ["writes owed to the store", "writes owed to the store are settled"]


def test_credentials_are_written_when_source_or_health_changes(
    event_log: EventLog, output: Output
) -> None:
    """First load, failure, recovery and another source: four lines; plain rotation: none."""
    for source, problem in (
        ("sts", None),
        ("sts", None),
        ("sts", "no answer"),
        ("sts", None),
        ("environment", None),
    ):
        event_log.on_event(events.CredentialsChanged(source, problem))
    loaded, failing = "credentials loaded", "credentials failing"
    assert output.events() == [loaded, failing, loaded, loaded]


def test_repeated_upstream_failures_are_counted_per_kind(
    event_log: EventLog, output: Output, clock: Time
) -> None:
    """One line per kind and ten seconds; the next line tells how many there were in between."""
    timeout = events.UpstreamSilent("GetItem", ORDERS, UpstreamFailure.TIMEOUT)
    reset = events.UpstreamSilent("GetItem", ORDERS, UpstreamFailure.RESET)
    for now_s, event in ((0, timeout), (1, timeout), (2, reset), (9.9, timeout), (10, timeout)):
        clock.now_s = now_s
        event_log.on_event(event)
    assert [(line["failure"], line["count"]) for line in output.lines()] == [
        ("timeout", 1),
        ("reset", 1),
        ("timeout", 3),
    ]


@pytest.mark.parametrize(
    "event",
    [
        events.FenceEnded(ORDERS, FenceResult.LOST),
        events.InvariantViolated("read_path"),
        events.CredentialsChanged("sts", "no answer"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_other_repeated_problems_are_limited_too(
    event: events.Event, event_log: EventLog, output: Output
) -> None:
    """A problem that comes with every request does not fill the log."""
    for _ in range(100):
        event_log.on_event(event)
    assert len(output.lines()) == 1


def test_a_closed_pipe_on_stdout_never_fails_the_emitter() -> None:
    """The reader of the log has gone: the event is dropped, the request goes on."""
    reader, writer = os.pipe()
    os.close(reader)
    pipe = os.fdopen(writer, "w", buffering=1)
    configure("debug", "json", stream=pipe)
    log = EventLog(logger("events"), Time().monotonic_s)
    log.on_event(events.InvariantViolated("read_path"))
    with pytest.raises(BrokenPipeError):
        pipe.close()


def test_the_level_hides_what_is_below_it() -> None:
    """At `error`, warnings of our own and of libraries are not written."""
    out = Output()
    configure("error", "json", stream=out)
    logger("app").warning("hidden")
    logging.getLogger("aiohttp.server").warning("hidden too")
    logger("app").error("seen")
    assert out.events() == ["seen"]


def test_the_console_format_is_for_people() -> None:
    """The console format is no JSON and has no colours where there is no terminal."""
    out = Output()
    configure("info", "console", stream=out)
    logger("app").info("listening", port=8111)
    assert "listening" in out.getvalue()
    assert "port=8111" in out.getvalue()
    assert "\x1b" not in out.getvalue()
    assert not out.getvalue().startswith("{")


def test_stdout_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a stream, lines go to stdout."""
    configure()
    logger("app").info("listening")
    assert json.loads(capsys.readouterr().out)["event"] == "listening"


@pytest.mark.parametrize("name", ["aiohttp.server", "botocore.credentials", "asyncio"])
def test_library_warnings_join_the_same_output(name: str, output: Output) -> None:
    """A library's warning is a JSON line like ours; its chatter below warning is not written."""
    logging.getLogger(name).info("chatter")
    logging.getLogger(name).warning("worth %s", "reading")
    (line,) = output.lines()
    assert (line["event"], line["level"], line["logger"]) == ("worth reading", "warning", name)


def test_configuring_again_leaves_one_handler(output: Output) -> None:
    """The last call counts: a library's line is written once, to the last stream."""
    again = Output()
    configure("info", "json", stream=again)
    logging.getLogger("aiohttp.server").warning("once")
    assert output.lines() == []
    assert again.events() == ["once"]


def fail_with_item(text: str) -> None:
    """Raise an error that quotes an item, from another that does too."""
    nothing: dict[str, str] = {}
    try:
        nothing[text]
    except KeyError as cause:
        raise ValueError(text) from cause


def test_exceptions_are_written_without_their_message(output: Output) -> None:
    """A message may quote an item: type, causes and places are written, the message is not."""
    try:
        fail_with_item("user#1-secret")
    except ValueError as error:
        logging.getLogger("aiohttp.server").exception("Error handling request")
        logger("app").exception("background task failed")
        logger("app").error("again", exc_info=error)
    assert "user#1-secret" not in output.getvalue()
    assert len(output.lines()) == 3
    for line in output.lines():
        assert line["error"] == ["builtins.ValueError", "builtins.KeyError"]
        assert line["places"][-1].endswith(" fail_with_item")


def test_only_the_first_line_of_a_library_message_is_written(output: Output) -> None:
    """Asyncio puts the repr of a task and its exception below the first line."""
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: <user#1>")
    assert output.events() == ["Task exception was never retrieved"]


def test_stale_entries_are_told_by_example(output: Output) -> None:
    """One line in ten seconds, with its table, age, level and a hash that only we can make."""
    time = Time()
    log = EventLog(logger("test"), time.monotonic_s)
    for age_s in (1.23456, 2.0, 3.0):
        log.on_event(events.StaleFound(ORDERS, Level.STRICT, age_s, "0a1b", in_shadow=True))
    (line,) = output.lines()
    told = {
        name: line[name] for name in ("table", "table_level", "age_s", "item", "served", "count")
    }
    assert told == {
        "table": "orders",
        "table_level": "strict",
        "age_s": 1.235,
        "item": "0a1b",
        "served": False,
        "count": 1,
    }


def test_streams_are_told_of_sparingly(output: Output) -> None:
    """Gaps, troubles and parked records by kind; a lag when it goes over its bound and back."""
    time = Time()
    log = EventLog(logger("test"), time.monotonic_s)
    for _ in range(2):
        log.on_event(events.StreamGap(ORDERS, GapReason.TRIMMED))
        log.on_event(events.StreamTroubled(ORDERS, StreamTrouble.DENIED))
        log.on_event(events.StreamParked(ORDERS, PoisonReason.NO_KEYS, 0))
    log.on_event(events.StreamLagMoved(ORDERS, over=True))
    log.on_event(events.StreamLagMoved(ORDERS, over=False))
    told = [(line["level"], line["event"], line["table"]) for line in output.lines()]
    assert told == [
        ("warning", "table voided", "orders"),
        ("warning", "stream trouble", "orders"),
        ("error", "stream record parked", "orders"),
        ("warning", "table is too far behind its stream", "orders"),
        ("info", "table is not behind its stream any more", "orders"),
    ]
