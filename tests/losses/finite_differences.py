"""Comparison of gradients with central differences of float64 references."""

from collections.abc import Callable
from typing import Any

import numpy as np


def check_gradient(gradient: Any, reference: Callable[[Any], float], at: Any, *, step: float = 1e-5) -> None:
    """Compare derivatives along three random directions, to 1e-5 of the norms of gradient and direction."""
    gradient, at = np.asarray(gradient, np.float64), np.asarray(at, np.float64)
    assert np.abs(gradient).max() > 0
    for seed in (5, 6, 7):
        direction = np.random.default_rng(seed).standard_normal(at.shape)
        slope = (reference(at + step * direction) - reference(at - step * direction)) / (2 * step)
        scale = float(np.linalg.norm(gradient) * np.linalg.norm(direction))
        np.testing.assert_allclose(np.sum(gradient * direction), slope, atol=1e-5 * scale)
