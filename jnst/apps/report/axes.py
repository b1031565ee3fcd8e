"""Axes of curves: where marks stand, and what is written beside them."""

import math


def marks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers within a range, evenly apart: 1, 2 or 5 times a power of ten.

    Args:
        low: Below ``high``.
        high: Both in any unit.
        most: How many at most.
    """
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12 - math.floor(math.log10(step))) for number in range(first, last + 1)]


def log_marks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers within a range of positive numbers, for a logarithmic axis: powers of ten where there are enough.

    Args:
        low: Above 0 and below ``high``.
        high: In the same unit.
        most: How many at most.
    """
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first >= 2:
        return [10.0**power for power in range(first, last + 1, -(-(last - first + 1) // most))]
    between = [factor * 10.0**power for power in range(first - 1, last + 1) for factor in (1, 2, 5)]
    inside = [mark for mark in between if low * (1 - 1e-9) <= mark <= high * (1 + 1e-9)]
    return inside if len(inside) > 1 else marks(low, high, most)


def mark_text(value: float) -> str:
    """A mark's number, short: ``1500``, ``0.02``, ``2e6``."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:g}"
    mantissa, _, power = f"{value:.3e}".partition("e")
    return f"{float(mantissa):g}e{int(power)}"
