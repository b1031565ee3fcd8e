"""A growing sequence of which only a bounded number of evenly spaced items is kept."""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Thinned(Generic[T]):
    """Keeps every item at first; when there are too many, every second one, then every fourth, and so on.

    Args:
        max_items: How many items to keep at most, at least 2. Once that many were offered, at least half as many stay.

    Attributes:
        items: The items that are kept, in order: the first one, and then one of every 1, 2, 4 ... that were offered.
    """

    def __init__(self, max_items: int) -> None:
        self.items: list[T] = []
        self._max_items, self._every, self._offered = max_items, 1, 0

    def offer(self, make: Callable[[], T]) -> None:
        """Offer an item. ``make`` is called only if the item is kept."""
        number, self._offered = self._offered, self._offered + 1
        if number % self._every == 0 and len(self.items) == self._max_items:
            self.items = self.items[::2]
            self._every *= 2
        if number % self._every == 0:
            self.items.append(make())
