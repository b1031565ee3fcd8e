"""ResNets as Flax modules. Parameters have flaxmodels' names (``Bottleneck_0/Conv_1/kernel``)."""

from collections.abc import Iterator
from functools import partial

import flax.linen as nn

from jnst.backbones import ops
from jnst.backbones.modules import Block, Convolution, FeatureExtractor
from jnst.types import Array, Params

STATISTICS = ("mean", "var")
"""The leaves in Flax's ``batch_stats`` collection."""


def _normalize(x: Array, name: str) -> Array:
    return nn.BatchNorm(use_running_average=True, epsilon=1e-5, name=name)(x)


class ResidualBlock(nn.Module):
    """Convolutions with batch normalisation, a shortcut beside them, and a ReLU after their sum.

    Attributes:
        convolutions: The number of filters, the kernel size and the stride of each convolution.
        projection: Whether the shortcut is a 1x1 convolution with batch normalisation; if not, it is the identity.
    """

    convolutions: tuple[tuple[int, int, int], ...]
    projection: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """``(n, h, w, c)`` to ``(n, h', w', filters)``."""
        y = x
        for index, (filters, size, stride) in enumerate(self.convolutions):
            y = nn.relu(y) if index else y
            y = Convolution(filters, size, stride, use_bias=False, name=f"Conv_{index}")(y)
            y = _normalize(y, f"BatchNorm_{index}")
        if self.projection:
            index, filters = len(self.convolutions), self.convolutions[-1][0]
            stride = max(stride for _, _, stride in self.convolutions)
            x = Convolution(filters, 1, stride, use_bias=False, name=f"Conv_{index}")(x)
            x = _normalize(x, f"BatchNorm_{index}")
        return nn.relu(y + x)


class ResNet(FeatureExtractor):
    """A ResNet without its classifier.

    Layers: ``conv1``, ``relu1`` and the residual blocks ``block1_0``, ``block1_1`` … (after their ReLU).

    Attributes:
        depths: The number of residual blocks in each of the four stages.
        bottleneck: Whether the residual blocks are bottlenecks (50 layers and more) or basic.
        pooling: A key of `ops.POOLINGS`, for the only pooling, after the first convolution.
        rescale_pooling: Scale pooled values to about those of max pooling (crowsonkb).

    References:
        He et al., Deep Residual Learning for Image Recognition, CVPR 2016.
    """

    depths: tuple[int, int, int, int] = (3, 4, 6, 3)
    bottleneck: bool = True
    pooling: str = "max"
    rescale_pooling: bool = False

    @property
    def layers(self) -> tuple[str, ...]:
        """The first convolution and its ReLU, then the residual blocks."""
        blocks = (f"block{stage}_{i}" for stage, depth in enumerate(self.depths, 1) for i in range(depth))
        return ("conv1", "relu1", *blocks)

    def blocks(self) -> Iterator[Block]:
        """The first convolution with its pooling, then each residual block."""
        yield ResNet._stem
        places = ((stage, index) for stage, depth in enumerate(self.depths, 1) for index in range(depth))
        for count, (stage, index) in enumerate(places):
            yield partial(ResNet._residual, stage=stage, index=index, count=count)

    def _stem(self, x: Array, wanted: frozenset[str]) -> Iterator[tuple[str, Array]]:
        x = Convolution(64, size=7, stride=2, use_bias=False, name="Conv_0")(x)
        yield "conv1", x
        x = ops.relu(_normalize(x, "BatchNorm_0"))
        yield "relu1", x
        # No value is below zero after the ReLU, so zeros at the border never win.
        yield "pool1", ops.pool(ops.pad(x, 1, "zero"), self.pooling, rescale=self.rescale_pooling, window=3)

    def _residual(
        self, x: Array, wanted: frozenset[str], stage: int, index: int, count: int
    ) -> Iterator[tuple[str, Array]]:
        filters, stride = 32 * 2**stage, 2 if stage > 1 and index == 0 else 1
        if self.bottleneck:
            name, convolutions = f"Bottleneck_{count}", ((filters, 1, 1), (filters, 3, stride), (4 * filters, 1, 1))
        else:
            name, convolutions = f"BasicBlock_{count}", ((filters, 3, stride), (filters, 3, 1))
        projection = index == 0 and (stage > 1 or self.bottleneck)
        yield f"block{stage}_{index}", ResidualBlock(convolutions, projection, name=name)(x)

    def smallest_side(self, layer: str) -> int:
        """All convolutions and poolings are padded: one pixel is enough."""
        return 1

    def split_collections(self, params: Params) -> dict[str, Params]:
        """Split the running means and variances from the trained parameters."""
        return {"params": _select(params, statistics=False), "batch_stats": _select(params, statistics=True)}


def _select(tree: Params, *, statistics: bool) -> Params:
    branches = {name: _select(leaf, statistics=statistics) for name, leaf in tree.items() if isinstance(leaf, dict)}
    leaves = {
        name: leaf for name, leaf in tree.items() if not isinstance(leaf, dict) and (name in STATISTICS) == statistics
    }
    return {name: branch for name, branch in branches.items() if branch} | leaves
