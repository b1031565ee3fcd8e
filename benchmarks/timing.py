"""Times of several ways to do one thing, taken in turns: what else the machine does falls on all of them alike."""

import time
from collections.abc import Callable, Mapping

import jax


def in_turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every way in every round, forwards and backwards in turn; each should have run before, to compile."""
    names = list(ways)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in reversed(names) if number % 2 else names:
            begun = time.perf_counter()
            jax.block_until_ready(ways[name]())
            times[name].append(time.perf_counter() - begun)
    return times
