"""What every peer is given, and what it returns: a run whose steps can be timed."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.networks import Network

STD5 = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
MEAN = (103.939, 116.779, 123.68)
"""The mean blue, green and red in 0-255, which Oxford's networks expect to be subtracted from their BGR inputs."""
HISTORY = 100
"""How many earlier steps L-BFGS keeps."""


class Unavailable(Exception):
    """A peer does not work here; the message says why."""


@dataclasses.dataclass(frozen=True, eq=False)
class Settings:
    """What to minimise, and how.

    The conventions are those of neural-style-pt: the content loss is the mean squared error, the style loss that of
    Gram matrices over c h w, and total variation the sum of absolute differences, all on values from 0 to 255, which
    are also what the optimiser sees. With `statistic` "wasserstein" they are those of Crowson's style-transfer-pytorch:
    the mean squared error, 2-Wasserstein distances between normal distributions, a nine-point total variation, images
    in [0, 1] that are clipped after each step, replicate padding of the first convolution, and averaged iterates.

    Attributes:
        params: The network's parameters, up to the deepest layer.
        content_layer: The layer of the content loss.
        style_layers: The layers of the style loss.
        content_weight: The factor of the content loss.
        style_weight: The factor of the style loss.
        style_layer_weights: A further factor for each style layer.
        tv_weight: The factor of the total variation.
        pooling: "max" or "avg".
        optimizer: "adam" or "lbfgs" (step length 1, no line search).
        learning_rate: Adam's, in the units that the optimiser sees.
        b2: Adam's decay of the second moment.
        steps: The number of steps of a whole run.
        statistic: "gram" or "wasserstein".
        average: The decay of the average of iterates; 0 for none.
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
        """All layers that are needed, without repetitions."""
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
"""The default settings for each statistic."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A run, one step or several at a time.

    Attributes:
        advance: Makes ``length`` steps and waits until they are done. Returns the loss that each evaluated before its
            update; for a batch the sum over its images.
        image: Returns the current image, perhaps outside [0, 1], in the shape of the content.
        length: How many steps a call makes.
    """

    advance: Callable[[], Sequence[float]]
    image: Callable[[], np.ndarray]
    length: int = 1

    def __call__(self) -> float:
        """Make ``length`` steps and return the loss that the last one evaluated."""
        return self.advance()[-1]
