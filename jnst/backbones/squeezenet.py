"""SqueezeNet 1.1, as a Flax Linen module; fire modules carry Caffe's numbers (2 to 9)."""

import itertools
from collections.abc import Iterator
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from jnst.backbones import ops
from jnst.backbones.extractor import Block, FeatureExtractor
from jnst.backbones.kernels import choice
from jnst.backbones.vgg import Convolution
from jnst.types import Array, Params

FIRES: dict[str, tuple[int, int]] = {
    "fire2": (16, 64),
    "fire3": (16, 64),
    "fire4": (32, 128),
    "fire5": (32, 128),
    "fire6": (48, 192),
    "fire7": (48, 192),
    "fire8": (64, 256),
    "fire9": (64, 256),
}
"""The filters of each module: squeezing, and each half of expanding."""

POOLED = ("fire2", "fire4", "fire6")
"""The modules that begin with a pooling."""


class Fire(nn.Module):
    """A 1x1 convolution to few channels, then 1x1 and 3x3 convolutions side by side, each with its ReLU."""

    squeeze: int
    expand: int

    @nn.compact
    def __call__(self, x: Array, kept: bool = True) -> Array:
        """``(n, h, w, c)`` to ``(n, h, w, 2 * expand)``; ``kept``: see `ops.relu`."""
        x = ops.relu(Convolution(self.squeeze, size=1, name="squeeze")(x), kept=False)
        one = Convolution(self.expand, size=1, name="expand1x1")(x)
        three = Convolution(self.expand, size=3, name="expand3x3")(x)
        return ops.relu(jnp.concatenate([one, three], axis=-1), kept)


class SqueezeNet(FeatureExtractor):
    """SqueezeNet 1.1 without its classifier. Layers: ``conv1``, ``relu1``, ``fire2`` … ``fire9`` (after their ReLU).

    Attributes:
        pooling: A key of `ops.POOLINGS`.
        rescale_pooling: As in `VGG`.
        ceil_mode: Whether a last partial window is pooled (Caffe, torchvision) or left out (Keras).
        precision: As in `VGG`.

    References:
        Iandola et al., SqueezeNet: AlexNet-level accuracy with 50x fewer parameters, 2016.
    """

    pooling: str = "max"
    rescale_pooling: bool = False
    ceil_mode: bool = True
    precision: str = "auto"

    @property
    def layers(self) -> tuple[str, ...]:
        """``conv1``, ``relu1``, ``fire2`` … ``fire9``."""
        return ("conv1", "relu1", *FIRES)

    def blocks(self) -> Iterator[Block]:
        """The first convolution, then the fire modules between two poolings; each up to its pooling."""
        yield SqueezeNet._stem
        starts = [list(FIRES).index(name) for name in POOLED]
        for first, end in itertools.pairwise([*starts, len(FIRES)]):
            yield partial(SqueezeNet._fires, names=tuple(FIRES)[first:end])

    def _stem(self, x: Array, wanted: frozenset[str]) -> Iterator[tuple[str, Array]]:
        x = Convolution(64, stride=2, padding=None, name="conv1")(x)
        yield "conv1", x
        x = ops.relu(x, kept="relu1" in wanted)
        yield "relu1", x
        yield "pool1", self._pool(x)

    def _fires(self, x: Array, wanted: frozenset[str], names: tuple[str, ...]) -> Iterator[tuple[str, Array]]:
        for name in names:
            x = Fire(*FIRES[name], name=name)(x, kept=name in wanted)
            yield name, x
        yield f"pool behind {names[-1]}", self._pool(x)

    def _pool(self, x: Array) -> Array:
        return ops.pool(x, self.pooling, rescale=self.rescale_pooling, window=3, ceil=self.ceil_mode)

    def lay_out(self, params: Params) -> Params:
        """See `choice.lay_out`."""
        return choice.lay_out(params, self.precision)

    def smallest_side(self, layer: str) -> int:
        """Where every pooling before ``layer`` still has a window, followed back to the image."""
        depth = self.layers.index(layer)
        side = 1
        for name in POOLED:
            if self.layers.index(name) <= depth:
                side = 2 * side if self.ceil_mode else 2 * side + 1
        return 2 * side + 1
