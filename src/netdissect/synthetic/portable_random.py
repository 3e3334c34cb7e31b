"""Random numbers that are the same on every machine.

All methods use `random.Random.random`, the only method whose sequence Python guarantees not to change.
"""

import math
import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class PortableRandom:
    """A stream of random numbers that depends on its name alone.

    Parameters
    ----------
    name
        Equal names give equal streams, e.g. ``"image/0/17"``.

    Examples
    --------
    >>> PortableRandom("image/0/17").integer(0, 99) == PortableRandom("image/0/17").integer(0, 99)
    True
    """

    def __init__(self, name: str) -> None:
        self._next = random.Random(name).random  # noqa: S311, the stream must be reproducible

    def between(self, low: float, high: float) -> float:
        """Return a number from `low` up to `high`."""
        return low + (high - low) * self._next()

    def about(self, value: float, spread: float = 0.15) -> float:
        """Return a number from `value * (1 - spread)` to `value * (1 + spread)`."""
        return value * self.between(1 - spread, 1 + spread)

    def happens(self, probability: float) -> bool:
        """Return True with this probability."""
        return self._next() < probability

    def integer(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`, both included."""
        return low + math.floor((high - low + 1) * self._next())

    def sign(self) -> int:
        """Return 1 or -1."""
        return 1 if self._next() < 0.5 else -1

    def pick(self, items: Sequence[T]) -> T:
        """Return one of `items`."""
        return items[math.floor(len(items) * self._next())]

    def weighted_pick(self, weights: Mapping[T, float]) -> T:
        """Return one of the keys, drawn by their weights."""
        mark = self.between(0, sum(weights.values()))
        for item, weight in weights.items():
            mark -= weight
            if mark < 0:
                return item
        return item

    def count(self, expected: float) -> int:
        """Return a whole number of mean `expected`, at most 1.5 times `expected`, rounded up."""
        top = math.ceil(1.5 * expected)
        return sum(self.happens(expected / top) for _ in range(top)) if top else 0
