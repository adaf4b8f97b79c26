"""Writes the log: one line per noteworthy fact on stdout, as JSON or for a console.

`proxy.app` calls `configure` once and subscribes an `EventLog`; everybody else asks `logger` for a
name. Lines of the standard library's loggers (aiohttp, botocore, asyncio) join the same output from
warning on. No line carries a cache key, a primary key, item contents or a secret: events have none,
and of an exception only its type and the places it passed are written, for its message may quote
whatever the code was handling.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from proxy.core.store_fitness import ADVICE
from proxy.core.values import FenceResult, TableCheck
from proxy.flow import events

FOREIGN_LINE_MAX: Final = 500
CAUSES_MAX: Final = 5
QUIET_S: Final = 10.0

BREAKER_CLOSED: Final = "closed"


class _ForeignHandler(logging.StreamHandler[TextIO]):
    """The one handler of ours on the root logger; a class so that `configure` can find it."""


def configure(
    level: str = "info", log_format: str = "json", *, stream: TextIO | None = None
) -> None:
    """Set the log up for the whole process; the last call counts.

    Args:
        level: `debug`, `info`, `warning` or `error`; other libraries never below `warning`.
        log_format: `json` (one object a line) or `console`.
        stream: where lines go; stdout unless told otherwise.
    """
    out = sys.stdout if stream is None else stream
    level_number = logging.getLevelNamesMapping()[level.upper()]
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=out.isatty())
    )
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _name_exception,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level_number),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    handler = _ForeignHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, _keep_first_line, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [old for old in root.handlers if not isinstance(old, _ForeignHandler)]
    root.addHandler(handler)
    root.setLevel(max(level_number, logging.WARNING))


def logger(name: str) -> FilteringBoundLogger:
    """Return a logger whose lines carry `name` as their `logger` field; call `configure` first."""
    return cast("FilteringBoundLogger", structlog.get_logger().bind(logger=name))


class EventLog:
    """Log the few events an operator should read; all others are for the metrics.

    Facts that may repeat with every request get at most one line per kind and `quiet_s`, with the
    `count` of such facts since the line before.

    Args:
        log: where the lines go.
        monotonic_s: this process's monotonic clock.
        quiet_s: shortest time between two lines of one kind, seconds.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        monotonic_s: Callable[[], float],
        *,
        quiet_s: float = QUIET_S,
    ) -> None:
        self._log = log
        self._repeats = _Repeats(monotonic_s, quiet_s)
        self._serving: events.StoreServing | None = None
        self._fit = True
        self._detour = False
        self._breaker_closed = True
        self._debts = 0
        self._credentials: tuple[str, bool] | None = None
        self._handlers: dict[type, Callable[[Any], None]] = {
            events.StoreServing: self._on_serving,
            events.StoreFitness: self._on_fitness,
            events.StoreDetour: self._on_detour,
            events.BreakerMoved: self._on_breaker,
            events.CredentialsChanged: self._on_credentials,
            events.UpstreamSilent: self._on_upstream_silent,
            events.InvariantViolated: self._on_violation,
            events.DebtsChanged: self._on_debts,
            events.FenceEnded: self._on_fence,
            events.TableChecked: self._on_table_check,
            events.StaleFound: self._on_stale,
            events.ModeSwitched: self._on_switch,
            events.StreamGap: self._on_gap,
            events.StreamTroubled: self._on_stream_trouble,
            events.StreamParked: self._on_parked,
            events.StreamLagMoved: self._on_lag,
        }

    def on_event(self, event: events.Event) -> None:
        """Write a line if the event is noteworthy; never raises, a log that fails is no reason."""
        handler = self._handlers.get(type(event))
        if handler is None:
            return
        # A reader of our stdout that went away must not fail the request that made the event.
        with contextlib.suppress(OSError, ValueError):
            handler(event)

    def _on_serving(self, event: events.StoreServing) -> None:
        if event == self._serving:
            return
        self._serving = event
        if event.serving:
            self._log.info("store serving", why=event.why)
        else:
            self._log.warning("store not serving", why=event.why)

    def _on_detour(self, _: events.StoreDetour) -> None:
        if not self._detour:  # once per process: every connection goes the same way
            self._detour = True
            self._log.warning("store connections go the slower way", why="redis-py has changed")

    def _on_fitness(self, event: events.StoreFitness) -> None:
        for flaw in event.flaws:
            bypassed = event.demanded and flaw.disqualifies
            tell = self._log.error if bypassed else self._log.warning
            tell("store flawed", flaw=flaw, strict_bypassed=bypassed, advice=ADVICE[flaw])
        if not event.flaws and not self._fit:
            self._log.info("store without flaws")
        self._fit = not event.flaws

    def _on_breaker(self, event: events.BreakerMoved) -> None:
        # An outage moves the breaker open, probing, open, … each second: only its ends are news.
        closed = event.state == BREAKER_CLOSED
        if closed is self._breaker_closed:
            return
        self._breaker_closed = closed
        if closed:
            self._log.info("store breaker closed")
        else:
            self._log.warning("store breaker opened", state=event.state)

    def _on_credentials(self, event: events.CredentialsChanged) -> None:
        known = (event.source, event.problem is None)
        if event.problem is not None:
            if count := self._repeats.due("credentials", event.problem):
                self._log.error(
                    "credentials failing", source=event.source, problem=event.problem, count=count
                )
        elif known != self._credentials:
            self._log.info("credentials loaded", source=event.source)
        self._credentials = known

    def _on_upstream_silent(self, event: events.UpstreamSilent) -> None:
        if count := self._repeats.due("upstream", event.failure):
            self._log.warning(
                "upstream silent", failure=event.failure, operation=event.operation, count=count
            )

    def _on_violation(self, event: events.InvariantViolated) -> None:
        if count := self._repeats.due("invariant", event.where):
            self._log.error("invariant violated", where=event.where, count=count)

    def _on_debts(self, event: events.DebtsChanged) -> None:
        before, self._debts = self._debts, event.debts
        if event.debts and not before:
            self._log.warning("writes owed to the store", debts=event.debts)
        elif before and not event.debts:
            self._log.info("writes owed to the store are settled")

    def _on_fence(self, event: events.FenceEnded) -> None:
        if event.result is FenceResult.LOST and (count := self._repeats.due("fence", "lost")):
            self._log.warning("fence marker lost", table=event.table, count=count)

    def _on_table_check(self, event: events.TableChecked) -> None:
        if event.result is TableCheck.REMADE:
            self._log.warning("table is another one", table=event.table)
        elif event.result is TableCheck.UNKNOWN:
            self._log.warning("table cannot be described", table=event.table)

    def _on_stale(self, event: events.StaleFound) -> None:
        if count := self._repeats.due("stale", event.level):
            self._log.error(
                "stale entry found",
                table=event.table,
                table_level=event.level,  # `level` is the line's own
                age_s=round(event.age_s, 3),
                item=event.mark,
                served=not event.in_shadow,
                count=count,
            )

    def _on_switch(self, event: events.ModeSwitched) -> None:
        percent = event.percent
        self._log.warning("mode switched", table=event.table, mode=event.mode, percent=percent)

    def _on_gap(self, event: events.StreamGap) -> None:
        if count := self._repeats.due("stream gap", event.reason):
            self._log.warning("table voided", table=event.table, gap=event.reason, count=count)

    def _on_stream_trouble(self, event: events.StreamTroubled) -> None:
        if count := self._repeats.due("stream", event.trouble):
            self._log.warning(
                "stream trouble", table=event.table, trouble=event.trouble, count=count
            )

    def _on_parked(self, event: events.StreamParked) -> None:
        if count := self._repeats.due("parked", event.reason):
            self._log.error(
                "stream record parked", table=event.table, why=event.reason, count=count
            )

    def _on_lag(self, event: events.StreamLagMoved) -> None:
        if event.over:
            self._log.warning("table is too far behind its stream", table=event.table)
        else:
            self._log.info("table is not behind its stream any more", table=event.table)


class _Repeats:
    """Count repeated facts by kind, and tell when the next line is due."""

    def __init__(self, monotonic_s: Callable[[], float], quiet_s: float) -> None:
        self._monotonic_s = monotonic_s
        self._quiet_s = quiet_s
        self._last_line_s: dict[tuple[str, str], float] = {}
        self._unreported: dict[tuple[str, str], int] = {}

    def due(self, kind: str, detail: str) -> int:
        """Count one fact; return the count to report now, or 0 to stay quiet.

        `detail` is an enum member, a place in our code or a problem of a fixed wording, so both
        dictionaries stay small.
        """
        what, now_s = (kind, detail), self._monotonic_s()
        count = self._unreported.get(what, 0) + 1
        last_s = self._last_line_s.get(what)
        if last_s is not None and now_s - last_s < self._quiet_s:
            self._unreported[what] = count
            return 0
        self._unreported[what] = 0
        self._last_line_s[what] = now_s
        return count


def _keep_first_line(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """Cut a foreign message: asyncio puts the repr of whole tasks below its first line."""
    event_dict["event"] = event_dict["event"].partition("\n")[0][:FOREIGN_LINE_MAX]
    return event_dict


def _name_exception(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """Replace `exc_info` by the exception's type, its causes' types and the places it passed."""
    found = event_dict.pop("exc_info", None)
    error = sys.exception() if found is True else found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event_dict["error"] = _type_chain(error)
        event_dict["places"] = _places(error.__traceback__)
    return event_dict


def _type_chain(error: BaseException) -> list[str]:
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < CAUSES_MAX:
        chain.append(f"{type(cause).__module__}.{type(cause).__qualname__}")
        cause = cause.__cause__ or cause.__context__
    return chain


def _places(trace: TracebackType | None) -> list[str]:
    return [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(trace)]
