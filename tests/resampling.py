"""Linear interpolation as matrices in float64."""

import numpy as np


def linear_weights(old: int, new: int) -> np.ndarray:
    """The `(new, old)` matrix of the triangle filter, which is antialiased and cut off at the border."""
    centres = (np.arange(new)[:, None] + 0.5) * old / new - 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(centres - np.arange(old)) / max(1.0, old / new))
    return weights / weights.sum(1, keepdims=True)


def linear(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resample `(h, w)` or `(h, w, c)`."""
    rows, columns = linear_weights(values.shape[0], height), linear_weights(values.shape[1], width)
    return np.einsum("ih,hw...,jw->ij...", rows, np.asarray(values, np.float64), columns)
