"""Samples: taken in turns, summarised by medians, quartiles and pairwise ratios, and checked by the losses they had."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

FLOAT32, BFLOAT16 = 1e-3, 3e-2
"""The largest relative difference between first losses, by the precision in which a network is computed."""

LAST_TOLERANCE = 0.05
"""The largest relative difference between last losses. Rounding only changes a run a little, a wrong gradient a lot."""


def take_turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time several functions in turns, so that whatever slows the machine down affects all of them.

    Args:
        ways: Functions by name, each called once before, so that it is compiled.
        rounds: Calls of each. Every other round goes through the functions in reverse order.

    Returns:
        The seconds of each function's calls.
    """
    # Imported late, because processes of PyTorch import this module without JAX.
    import jax

    names = list(ways)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in reversed(names) if number % 2 else names:
            begun = time.perf_counter()
            jax.block_until_ready(ways[name]())
            times[name].append(time.perf_counter() - begun)
    return times


def spread(samples: Sequence[float]) -> dict[str, Any]:
    """Return samples with their median and quartiles."""
    lower, median, upper = np.percentile(samples, (25, 50, 75))
    return {"median": float(median), "quartiles": [float(lower), float(upper)], "samples": [*map(float, samples)]}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Divide ours by theirs pair by pair: what slows the machine down in one round affects both.

    Raises:
        ValueError: The numbers of samples differ.
    """
    return spread([our / their for our, their in zip(ours, theirs, strict=True)])


def shown(values: Mapping[str, Any], unit: str = "", digits: int = 3) -> str:
    """Format a `spread` for a table: the median, and the quartiles in brackets."""
    lower, upper = values["quartiles"]
    return f"{values['median']:.{digits}f}{unit} ({lower:.{digits}f} to {upper:.{digits}f})"


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The power of the size with which time grows: the slope of a straight line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def check_losses(losses: Mapping[str, Sequence[float]], tolerances: Mapping[str, float]) -> None:
    """Check that configurations compute the same, by their first losses and by those of the last common step.

    All are compared with the first configuration.

    Args:
        losses: The loss at each step of each configuration.
        tolerances: The largest relative difference between a configuration's first loss and the first configuration's.
            For the last loss it is `LAST_TOLERANCE`.

    Raises:
        RuntimeError: A loss is not finite, or the losses differ: there is nothing to report.
    """
    for name, values in losses.items():
        if not len(values) or not np.isfinite(values).all():
            raise RuntimeError(f"{name}: losses {list(values)} are not all finite")
    reference, expected = next(iter(losses.items()))
    last = min(map(len, losses.values())) - 1
    for name, values in losses.items():
        for step, tolerance in ((0, max(tolerances[name], tolerances[reference])), (last, LAST_TOLERANCE)):
            if abs(values[step] - expected[step]) > tolerance * abs(expected[step]):
                raise RuntimeError(
                    f"{name}: the loss of step {step + 1} is {values[step]:.6g}, but {expected[step]:.6g} for "
                    f"{reference}. They differ by more than {tolerance:g}, so they do not compute the same"
                )
