"""Counts what all requests of a process hold together, and refuses more than there is room for."""

from __future__ import annotations

from typing import Self

from proxy.core.errors import Overloaded


class Budget:
    """Room for so many units, shared by requests.

    Args:
        name: of the setting that bounds it; told to whoever is refused.
        units_max: the room there is.
    """

    def __init__(self, name: str, units_max: int) -> None:
        self._name = name
        self._units_max = units_max
        self.used = 0

    def share(self) -> Share:
        """Give one request its share, as `with`."""
        return Share(self)

    def has_room(self, units: int) -> bool:
        """Tell whether so much could be taken now."""
        return self.used + units <= self._units_max

    def take(self, units: int) -> None:
        """Take room.

        Raises:
            Overloaded: there is not so much left; nothing was taken.
        """
        if not self.has_room(units):
            raise Overloaded(f"{self._name} is reached: too much is in flight, try again")
        self.used += units

    def give(self, units: int) -> None:
        """Give back what was taken."""
        self.used -= units


class Share:
    """What one request holds of a budget; given back whole at the end of its `with` block."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.units = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._budget.give(self.units)

    def grow(self, units: int) -> None:
        """Take more.

        Raises:
            Overloaded: there is no room.
        """
        self._budget.take(units)
        self.units += units
