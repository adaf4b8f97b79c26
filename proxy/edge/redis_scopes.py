"""Judges what a lookup read of a scope's record, under the connection that brought it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from proxy.core.fence import Proven
from proxy.core.record import ScopeRecord, decode_scope
from proxy.edge.redis_command import checked
from proxy.edge.redis_courier import Told
from proxy.edge.redis_primary import PrimaryView


class Known(NamedTuple):
    """A scope's record, and what is known of the connection that brought it."""

    scope: ScopeRecord
    view: PrimaryView

    def by_clock_of(self, other: PrimaryView, now_s: float) -> ScopeRecord:
        """Return the record with its times as another server's clock has them."""
        if other is self.view:
            return self.scope
        ahead_ms = other.store_now_ms(now_s) - self.view.store_now_ms(now_s)
        pages_from_ms = self.scope.pages_from_ms
        return replace(
            self.scope,
            raised_ms=self.scope.raised_ms + ahead_ms,
            pages_from_ms=max(1, pages_from_ms + ahead_ms) if pages_from_ms else 0,
        )


def sources_of(item: Told, table: Told) -> tuple[Proven, ...]:
    """Return who will tell of changes to either record; nobody where one of them is not tracked."""
    if item.source is None or table.source is None:
        return ()
    return (item.source,) if item.source is table.source else (item.source, table.source)


def known(told: Told, now_s: float) -> Known | None:
    """Return a scope's record with its connection's view, or None where it must be learned."""
    scope = standing(told, now_s)
    return Known(scope, told.view) if scope is not None else None


def standing(told: Told, now_s: float) -> ScopeRecord | None:
    """Return a scope's record, or None where it must be learned first."""
    (raw,) = checked([told.reply])
    scope = decode_scope(raw) if raw is not None else None
    if scope is None or not scope.stands(told.view.incarnation, told.view.store_now_ms(now_s)):
        return None
    return scope
