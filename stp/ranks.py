"""The ranks (processes) that share a run: how work is divided among them, and how their values come together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def _alone(value: Any) -> list[Any]:
    return [value]


@dataclass(frozen=True)
class Ranks:
    """This process among the others. A process alone is `Ranks()`.

    number: this process's place, from 0. count: how many processes there are. gather: returns every rank's value, in rank
    order, on every rank; all ranks must call it together.
    """

    number: int = 0
    count: int = 1
    gather: Callable[[Any], list[Any]] = _alone

    def share(self, rows: int) -> slice:
        """Returns the consecutive rows of a global batch that belong to this rank. Shares cover the batch without overlap."""
        return slice(self.number * rows // self.count, (self.number + 1) * rows // self.count)

    def sum(self, values: dict[str, float]) -> dict[str, float]:
        """Returns the sum of each value over ranks."""
        every = self.gather(values)
        return {name: sum(v[name] for v in every) for name in values}

    def largest(self, value: float) -> float:
        """Returns the maximum over ranks."""
        return max(self.gather(value))

    def lists(self, values: dict[str, list]) -> dict[str, list]:
        """Returns each list concatenated over ranks, in rank order."""
        every = self.gather(values)
        names = dict.fromkeys(name for v in every for name in v)
        return {name: [x for v in every for x in v.get(name, [])] for name in names}
