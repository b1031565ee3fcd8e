"""A growing sequence of which a bounded number of items is kept, evenly spread."""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Thinned(Generic[T]):
    """Keeps every item at first, every second one when there are too many, then every fourth, and so on.

    Args:
        most: How many are kept at most, at least 2; never fewer than half of that once there were so many.

    Attributes:
        items: What is kept, in order: the first item, and then one of every 1, 2, 4 ... that were offered.
    """

    def __init__(self, most: int) -> None:
        self.items: list[T] = []
        self._most, self._every, self._offered = most, 1, 0

    def offer(self, make: Callable[[], T]) -> None:
        """Add an item. ``make`` is called only if it is kept."""
        number, self._offered = self._offered, self._offered + 1
        if number % self._every == 0 and len(self.items) == self._most:
            self.items = self.items[::2]
            self._every *= 2
        if number % self._every == 0:
            self.items.append(make())
