"""The model's writers: begin, take effect or not, end; as the write path and the stream do."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.core.fence import begun_under
from proxy.core.record import decode_scope
from proxy.core.values import Incarnation
from tests.model import steps
from tests.model.steps import Specification
from tests.model.world import (
    Scenario,
    State,
    Step,
    Writer,
    generation_of,
    incarnation_of,
    token_of,
    with_writer,
)


class Writers:
    """The steps of every writer of a scenario.

    Args:
        scenario: their kinds, and what may become of them.
        specification: performs calls.
    """

    def __init__(self, scenario: Scenario, specification: Specification) -> None:
        self._scenario = scenario
        self._specification = specification
        self._options = scenario.options

    def steps(self, s: State, i: int) -> Iterator[Step]:
        """Yield all that writer `i` may do now."""
        match self._scenario.writers[i]:
            case "outsider":
                yield from self._outsider(s, i)
            case "table":
                yield from self._table_writer(s, i)
            case _:
                yield from self._writer(s, i)

    def _writer(self, s: State, i: int) -> Iterator[Step]:
        me, token = s.writers[i], token_of("writer", i)
        who = f"{self._scenario.writers[i]} {i}"
        if me.phase == "idle":
            call = steps.begin(incarnation_of(s.incarnation), token, gate_open=s.gate_open)
            after = s._replace(item=self._specification.perform(s.item, call).after)
            table = decode_scope(s.table.raw) if s.table else None
            there, here = s.table is not None, Incarnation(incarnation_of(s.table_incarnation))
            generation = begun_under(table, here, there=there).generation
            begun = Writer("sent", generation=generation, fail_overs=s.fail_overs)
            yield f"{who} begins", with_writer(after, i, begun), None
            return
        yield from self._flight(s, i)
        if me.phase not in ("applied", "refused"):
            return
        incarnation = incarnation_of(s.incarnation)
        if me.phase == "refused":
            call = steps.end(incarnation, token, "A")
        elif self._scenario.writers[i] == "put" and me.generation is not None:
            as_hash = self._scenario.writers_hash
            draft = steps.draft(me.generation, me.value, as_hash=as_hash)
            call = steps.end(incarnation, token, "S", *draft)
        else:
            call = steps.end(incarnation, token, "I")
        done = self._specification.perform(s.item, call)
        after = s._replace(item=done.after, floor=max(s.floor, me.value))
        yield f"{who} ends: {done.reply}", with_writer(after, i, Writer("done")), None

    def _table_writer(self, s: State, i: int) -> Iterator[Step]:
        me, token = s.writers[i], token_of("writer", i)
        who = f"table writer {i}"
        if me.phase == "idle":
            begun = Writer("sent", fail_overs=s.fail_overs)
            after = on_table(self._specification, s, "begin", token)
            yield f"{who} begins", with_writer(after, i, begun), None
            return
        yield from self._flight(s, i)
        if me.phase in ("applied", "refused"):
            word = "end" if me.phase == "applied" else "abort"
            after = on_table(self._specification, s, word, token)
            after = after._replace(floor=max(s.floor, me.value))
            yield f"{who}: {word}", with_writer(after, i, Writer("done")), None

    def _flight(self, s: State, i: int) -> Iterator[Step]:
        """What may become of a write between begin and end."""
        me, new = s.writers[i], s.upstream + 1
        who = f"writer {i}"
        applied = with_writer(s._replace(upstream=new), i, me._replace(phase="applied", value=new))
        if me.phase == "sent":
            yield f"{who} takes effect as {new}", applied, None
            if "refuse" in self._options:
                yield f"{who} is refused", with_writer(s, i, me._replace(phase="refused")), None
            if "crash" in self._options:
                lost = with_writer(s, i, me._replace(phase="limbo"))
                yield f"{who} is lost, may still take effect", lost, None
        elif me.phase == "limbo":
            dead = me._replace(phase="dead", generation=None)
            late = with_writer(s._replace(upstream=new), i, dead)
            yield f"{who} takes effect late as {new}", late, None
            yield f"{who} never takes effect", with_writer(s, i, dead), None
        elif me.phase == "applied" and "crash" in self._options:
            dead = me._replace(phase="dead", value=0, generation=None)
            yield f"{who} dies before its end", with_writer(s, i, dead), None

    def _outsider(self, s: State, i: int) -> Iterator[Step]:
        me, new = s.writers[i], s.upstream + 1
        if me.phase == "idle":
            after = s._replace(upstream=new)
            yield (
                f"outsider takes effect as {new}",
                with_writer(after, i, Writer("applied", new)),
                None,
            )
        elif me.phase == "applied":
            item = self._specification.perform(s.item, steps.invalidate()).after
            after = s._replace(item=item, floor=max(s.floor, me.value))
            yield "the outsider's record invalidates", with_writer(after, i, Writer("done")), None


def on_table(specification: Specification, s: State, word: str, token: bytes) -> State:
    """Return the world after a step on the table's record."""
    fresh = generation_of(s.made + 1)
    here = incarnation_of(s.table_incarnation)
    done = specification.perform(s.table, steps.scope(word, here, fresh, token))
    assert done.after is not None, "a table's record stays"
    made = s.made + 1 if fresh in done.after.raw else s.made
    return s._replace(table=done.after, made=made)
