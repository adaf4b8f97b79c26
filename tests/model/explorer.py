"""Readers and writers of one item, taking the protocol's atomic steps in every possible order.

The promise is checked at each answer: nothing older than what was visible or acknowledged before
the reader came. Steps are performed by the executable specification, so what is explored here is
what the real scripts are compared with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from tests.fakes.memory_scripts import Stored
from tests.fakes.record_bytes import ScopeBytes
from tests.model import steps
from tests.model.environment import Environment
from tests.model.readers import Readers
from tests.model.steps import Specification
from tests.model.uncollected import uncollected
from tests.model.world import (
    Reader,
    Scenario,
    State,
    Step,
    Writer,
    generation_of,
    incarnation_of,
    token_of,
)
from tests.model.writers import Writers


@uncollected()
def explore(scenario: Scenario, specification: Specification) -> tuple[int, list[str] | None]:
    """Take every step in every order; return states seen and the shortest failing run, if any."""
    world = _World(scenario, specification)
    start = world.start()
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        for label, following, fault in world.steps(state):
            if fault:
                run = [f"{label}   <-- {fault}"]
                at = came_from[state]
                while at is not None:
                    run.append(at[1])
                    at = came_from[at[0]]
                return len(came_from), run[::-1]
            if following not in came_from:
                came_from[following] = (state, label)
                queue.append(following)
    return len(came_from), None


class _World:
    def __init__(self, scenario: Scenario, specification: Specification) -> None:
        self._scenario = scenario
        self._specification = specification
        self._readers = Readers(scenario, specification)
        self._writers = Writers(scenario, specification)
        self._environment = Environment(scenario)

    def start(self) -> State:
        generation = generation_of(1)
        item: Stored | None = None
        if "warm" in self._scenario.options:
            leased = self._specification.perform(
                None, steps.lease(incarnation_of(0), generation, token_of("warmer", 0), force=False)
            ).after
            as_hash = self._scenario.writers_hash
            warmer = token_of("warmer", 0)
            fill = steps.fill(incarnation_of(0), generation, warmer, 0, as_hash=as_hash)
            item = self._specification.perform(leased, fill).after
        return State(
            item=item,
            table=Stored(ScopeBytes(incarnation_of(0), generation).pack(), None),
            readers=(Reader(),) * len(self._scenario.readers),
            writers=(Writer(),) * len(self._scenario.writers),
            faults=int(bool(self._scenario.options & {"flush", "failover", "table-failover"})),
        )

    def steps(self, s: State) -> Iterator[Step]:
        for i in range(len(s.readers)):
            if not _waits_for_its_twin(self._scenario.readers, s.readers, i):
                yield from self._readers.steps(s, i)
        for i in range(len(s.writers)):
            if not _waits_for_its_twin(self._scenario.writers, s.writers, i):
                yield from self._writers.steps(s, i)
        yield from self._environment.steps(s)


def _waits_for_its_twin(
    kinds: Sequence[str], each: Sequence[Reader] | Sequence[Writer], i: int
) -> bool:
    """Tell whether the one before is of the same kind and has not begun either.

    Until they begin the two differ in their tokens only, which nobody does more with than compare.
    So what begins in another order is a run that is explored, with their names exchanged.
    """
    return i > 0 and kinds[i] == kinds[i - 1] and each[i - 1].phase == each[i].phase == "idle"
