"""What every peer is given, and what it gives back: a step that can be made, timed and looked at."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from benchmarks.networks import ImageArray, Network

STD5 = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
MEAN = (103.939, 116.779, 123.68)
"""Of blue, green and red in 0-255: Oxford's networks are fed BGR minus these."""
HISTORY = 100
"""How many steps L-BFGS remembers."""


class Unavailable(Exception):
    """A peer that does not work here; the message says why."""


@dataclasses.dataclass(frozen=True, eq=False)
class Settings:
    """What is minimised and how, in neural-style-pt's or, with `statistic` "wasserstein", in Crowson's conventions.

    neural-style-pt: content MSE, style MSE of Gram matrices over c h w, total variation as the sum of absolute
    differences, all on 0-255 values, which the optimiser moves as well. Crowson: content MSE, 2-Wasserstein distances
    of normal distributions, a nine-point total variation, images in [0, 1] clipped after each step, replicate
    padding of the first convolution, and an average of iterates.

    Attributes:
        params: The network's parameters, up to the deepest layer.
        content_layer: Layer of the content loss.
        style_layers: Layers of the style loss.
        content_weight: Factor of the content loss.
        style_weight: Factor of the style loss.
        style_layer_weights: One more factor for each style layer.
        tv_weight: Factor of the total variation.
        pooling: "max" or "avg".
        optimizer: "adam" or "lbfgs" (step length 1, no line search).
        learning_rate: Adam's, in the units that the optimiser moves.
        b2: Adam's second decay.
        steps: How many steps `run` makes.
        statistic: "gram" or "wasserstein".
        average: Decay of the average of iterates; 0 for none.
    """

    params: Network = dataclasses.field(repr=False)
    content_layer: str = "relu4_2"
    style_layers: tuple[str, ...] = STD5
    content_weight: float = 5.0
    style_weight: float = 100.0
    style_layer_weights: tuple[float, ...] = (1.0,) * 5
    tv_weight: float = 1e-3
    pooling: str = "max"
    optimizer: str = "adam"
    learning_rate: float = 1.0
    b2: float = 0.999
    steps: int = 100
    statistic: str = "gram"
    average: float = 0.0

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer that is needed, each once."""
        return tuple(dict.fromkeys((self.content_layer, *self.style_layers)))


def crowson(params: Network, **changes: object) -> Settings:
    """The settings of Crowson's program, at one size."""
    numbers: dict[str, object] = {
        "content_weight": 0.015,
        "style_weight": 1.0,
        "style_layer_weights": tuple(weight / 341 for weight in (256.0, 64.0, 16.0, 4.0, 1.0)),
        "tv_weight": 2.0,
        "learning_rate": 0.02,
        "b2": 0.99,
        "statistic": "wasserstein",
        "average": 0.99,
    }
    return Settings(params, **(numbers | changes))  # pyright: ignore[reportArgumentType]


STATISTICS: dict[str, Callable[[Network], Settings]] = {"gram": Settings, "wasserstein": crowson}
"""The settings that go with each statistic."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A run that stands before its next step.

    Attributes:
        advance: Makes ``length`` steps, waits until they are done, and returns the loss that each evaluated (of a batch
            the sum over its images), before its update.
        image: The image as it stands, perhaps outside [0, 1]: ``(h, w, 3)``, or with an axis of a batch in front.
        length: How many steps a call makes.
    """

    advance: Callable[[], Sequence[float]]
    image: Callable[[], np.ndarray]
    length: int = 1

    def __call__(self) -> float:
        """Make ``length`` steps and return the loss that the last evaluated."""
        return self.advance()[-1]


class Prepare(Protocol):
    """A peer's function: images ``(h, w, 3)`` (or a batch of them) to the step that minimises."""

    def __call__(self, content: ImageArray, style: ImageArray, settings: Settings) -> Step: ...


def make_run(prepare: Prepare) -> Callable[[ImageArray, ImageArray, Settings], tuple[ImageArray, list[float]]]:
    """``run(content, style, settings)``: the image after `Settings.steps` steps, in [0, 1], and the losses."""
    return partial(_run, prepare)


def _run(
    prepare: Prepare, content: ImageArray, style: ImageArray, settings: Settings
) -> tuple[ImageArray, list[float]]:
    step = prepare(content, style, settings)
    losses: list[float] = []
    while len(losses) < settings.steps:
        losses += step.advance()
    return np.clip(step.image(), 0.0, 1.0).astype(np.float32), losses[: settings.steps]
