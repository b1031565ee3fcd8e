"""What samples say: medians, quartiles, ratios pair by pair, growth; and whether the losses behind them agree."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FLOAT32, BFLOAT16 = 1e-3, 3e-2
"""How far first losses may lie apart, relative, by the precision in which a network is computed."""

LATER = 0.05
"""How far they may have gone apart after the last step: rounding changes a path, a wrong gradient leaves it."""


def spread(samples: Sequence[float]) -> dict[str, Any]:
    """Samples with their median and quartiles."""
    lower, median, upper = np.percentile(samples, (25, 50, 75))
    return {"median": float(median), "quartiles": [float(lower), float(upper)], "samples": [*map(float, samples)]}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Ours over theirs, pair by pair: what slowed the machine in one round falls on both.

    Raises:
        ValueError: Not as many samples of one as of the other.
    """
    return spread([our / their for our, their in zip(ours, theirs, strict=True)])


def shown(values: Mapping[str, Any], unit: str = "", digits: int = 3) -> str:
    """A `spread` in a table: the median, and the quartiles in brackets."""
    lower, upper = values["quartiles"]
    return f"{values['median']:.{digits}f}{unit} ({lower:.{digits}f} to {upper:.{digits}f})"


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """By which power of the size time grows: the slope of a straight line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def check_losses(losses: Mapping[str, Sequence[float]], tolerances: Mapping[str, float]) -> None:
    """Check that configurations compute the same thing: first losses, and those after as many steps as all made.

    The first configuration is what the others are compared with.

    Args:
        losses: Of each configuration, step by step.
        tolerances: How far its first loss may lie from the first configuration's, relative; see `LATER` for the last.

    Raises:
        RuntimeError: A loss is not finite, or not the same: nothing was measured.
    """
    for name, values in losses.items():
        if not len(values) or not np.isfinite(values).all():
            raise RuntimeError(f"{name}: losses {list(values)} are not all finite")
    reference, expected = next(iter(losses.items()))
    last = min(map(len, losses.values())) - 1
    for name, values in losses.items():
        for step, tolerance in ((0, max(tolerances[name], tolerances[reference])), (last, LATER)):
            if abs(values[step] - expected[step]) > tolerance * abs(expected[step]):
                raise RuntimeError(
                    f"{name}: the loss of step {step + 1} is {values[step]:.6g}, that of {reference} "
                    f"{expected[step]:.6g}: more than {tolerance:g} apart, they do not compute the same"
                )
