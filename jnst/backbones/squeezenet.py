"""SqueezeNet 1.1 as a Flax module. Fire modules have Caffe's numbers (2 to 9)."""

import itertools
from collections.abc import Iterator
from functools import partial

import flax.linen as nn

from jnst.backbones import gates, ops
from jnst.backbones.kernels import algorithms
from jnst.backbones.modules import Block, Convolution, FeatureExtractor
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
"""The number of filters of each module: of its squeeze convolution and of each of its expand convolutions."""

POOLED = ("fire2", "fire4", "fire6")
"""The modules whose input is pooled."""


class Fire(nn.Module):
    """A 1x1 convolution to few channels, then 1x1 and 3x3 convolutions side by side, each with a ReLU."""

    squeeze: int
    expand: int

    @nn.compact
    def __call__(self, x: Array, output_is_kept: bool = True) -> Array:
        """``(n, h, w, c)`` to ``(n, h, w, 2 * expand)``; ``output_is_kept``: see `ops.relu`."""
        x = gates.relu(self, "relu_squeeze", Convolution(self.squeeze, size=1, name="squeeze")(x), output_is_kept=False)
        one = Convolution(self.expand, size=1, name="expand1x1")(x)
        three = Convolution(self.expand, size=3, name="expand3x3")(x)
        return gates.relu(self, "relu_expand", ops.concatenate([one, three]), output_is_kept)


class SqueezeNet(FeatureExtractor):
    """SqueezeNet 1.1 without its classifier. Layers: ``conv1``, ``relu1``, ``fire2`` … ``fire9`` (after their ReLU).

    Attributes:
        pooling: A key of `ops.POOLINGS`.
        rescale_pooling: Scale pooled values to about those of max pooling (crowsonkb).
        ceil_mode: Whether a partial window at the end is pooled (Caffe, torchvision) or dropped (Keras).
        precision: A key of `algorithms.PRECISIONS`.

    References:
        Iandola et al., SqueezeNet: AlexNet-level accuracy with 50x fewer parameters, 2016.
    """

    has_gates = True
    pooling: str = "max"
    rescale_pooling: bool = False
    ceil_mode: bool = True
    precision: str = "auto"

    @property
    def layers(self) -> tuple[str, ...]:
        """``conv1``, ``relu1``, ``fire2`` … ``fire9``."""
        return ("conv1", "relu1", *FIRES)

    def blocks(self) -> Iterator[Block]:
        """The first convolution, then groups of fire modules; each up to and including a pooling."""
        yield SqueezeNet._stem
        starts = [list(FIRES).index(name) for name in POOLED]
        for start, end in itertools.pairwise([*starts, len(FIRES)]):
            yield partial(SqueezeNet._fires, names=tuple(FIRES)[start:end])

    def _stem(self, x: Array, wanted: frozenset[str]) -> Iterator[tuple[str, Array]]:
        x = Convolution(64, stride=2, padding=None, name="conv1")(x)
        yield "conv1", x
        x = gates.relu(self, "relu1", x, output_is_kept="relu1" in wanted)
        yield "relu1", x
        yield "pool1", self._pool("pool1", x)

    def _fires(self, x: Array, wanted: frozenset[str], names: tuple[str, ...]) -> Iterator[tuple[str, Array]]:
        for name in names:
            x = Fire(*FIRES[name], name=name)(x, output_is_kept=name in wanted)
            yield name, x
        pool = f"pool_{names[-1]}"
        yield pool, self._pool(pool, x)

    def _pool(self, name: str, x: Array) -> Array:
        return gates.pool(self, name, x, self.pooling, rescale=self.rescale_pooling, window=3, ceil=self.ceil_mode)

    def prepare(self, params: Params) -> Params:
        """Prepare parameters for the device that holds them; see `Backbone.prepare`."""
        return algorithms.prepare(params, self.precision)

    def smallest_side(self, layer: str) -> int:
        """Traces back to the image the size that leaves one window to each pooling before ``layer``."""
        depth = self.layers.index(layer)
        side = 1
        for name in POOLED:
            if self.layers.index(name) <= depth:
                side = 2 * side if self.ceil_mode else 2 * side + 1
        return 2 * side + 1
