"""AlexNet as a Flax module: torchvision's variant, without its classifier."""

from collections.abc import Iterator
from functools import partial

from jnst.backbones import gates, ops
from jnst.backbones.kernels import algorithms
from jnst.backbones.modules import Block, Convolution, FeatureExtractor
from jnst.types import Array, Params

FILTERS: dict[str, tuple[int, int]] = {"2": (192, 5), "3": (384, 3), "4": (256, 3), "5": (256, 3)}
"""The number of filters and the side of the kernel of each convolution after the first."""


class AlexNet(FeatureExtractor):
    """AlexNet without its classifier. Layers: ``conv1``, ``relu1`` … ``conv5``, ``relu5``.

    Attributes:
        pooling: A key of `ops.POOLINGS`.
        rescale_pooling: Scale pooled values to about those of max pooling (crowsonkb).
        precision: A key of `algorithms.PRECISIONS`; applies to prepared parameters.

    References:
        Krizhevsky, One weird trick for parallelizing convolutional neural networks, 2014 (this variant).
        Krizhevsky, Sutskever & Hinton, ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012.
    """

    has_gates = True
    pooling: str = "max"
    rescale_pooling: bool = False
    precision: str = "auto"

    @property
    def layers(self) -> tuple[str, ...]:
        """Each convolution and its ReLU."""
        return tuple(f"{kind}{number}" for number in ("1", *FILTERS) for kind in ("conv", "relu"))

    def blocks(self) -> Iterator[Block]:
        """The first two convolutions, each up to and including a pooling; then the other three."""
        yield AlexNet._stem
        yield partial(AlexNet._block, numbers=("2",))
        yield partial(AlexNet._block, numbers=("3", "4", "5"))

    def _stem(self, x: Array, wanted: frozenset[str]) -> Iterator[tuple[str, Array]]:
        x = Convolution(64, size=11, stride=4, padding=None, name="conv1")(ops.pad(x, 2, "zero"))
        yield "conv1", x
        x = gates.relu(self, "relu1", x, output_is_kept="relu1" in wanted)
        yield "relu1", x
        yield "pool1", self._pool("pool1", x)

    def _block(self, x: Array, wanted: frozenset[str], numbers: tuple[str, ...]) -> Iterator[tuple[str, Array]]:
        for number in numbers:
            filters, size = FILTERS[number]
            x = Convolution(filters, size, name=f"conv{number}")(x)
            yield f"conv{number}", x
            x = gates.relu(self, f"relu{number}", x, output_is_kept=f"relu{number}" in wanted)
            yield f"relu{number}", x
        pool = f"pool{numbers[-1]}"
        yield pool, self._pool(pool, x)

    def _pool(self, name: str, x: Array) -> Array:
        return gates.pool(self, name, x, self.pooling, rescale=self.rescale_pooling, window=3)

    def prepare(self, params: Params) -> Params:
        """Prepare parameters for the device that holds them; see `Backbone.prepare`."""
        return algorithms.prepare(params, self.precision)

    def smallest_side(self, layer: str) -> int:
        """The first convolution needs 7 pixels for one position, and 4 for each further one that poolings need."""
        poolings = min(int(layer[-1]) - 1, 2)
        return 4 * (2 ** (poolings + 1) - 2) + 7
