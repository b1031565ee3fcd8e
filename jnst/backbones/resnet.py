"""ResNets, composed of flaxmodels' residual blocks. Parameters have flaxmodels' names (``Bottleneck_0/Conv_1/kernel``).

flaxmodels is imported when a network is first built. Its batch normalisation computes in float32, whatever the dtype.
"""

from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import flax.linen as nn

from jnst.backbones import ops
from jnst.backbones.modules import Block, FeatureExtractor
from jnst.types import Array, Params

STATISTICS = ("mean", "var")
"""The leaves in Flax's ``batch_stats`` collection."""


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

    has_windows: ClassVar[bool] = False
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
        from flaxmodels.resnet.ops import BatchNorm

        x = nn.Conv(64, (7, 7), strides=(2, 2), padding=((3, 3), (3, 3)), use_bias=False, name="Conv_0")(x)
        yield "conv1", x
        x = ops.relu(BatchNorm(use_running_average=True, epsilon=1e-5, name="BatchNorm_0")(x))
        yield "relu1", x
        # No value is below zero after the ReLU, so zeros at the border never win.
        yield "pool1", ops.pool(ops.pad(x, 1, "zero"), self.pooling, rescale=self.rescale_pooling, window=3)

    def _residual(
        self, x: Array, wanted: frozenset[str], stage: int, index: int, count: int
    ) -> Iterator[tuple[str, Array]]:
        from flaxmodels.resnet.resnet import BasicBlock, Bottleneck

        block, name = Bottleneck if self.bottleneck else BasicBlock, f"block{stage}_{index}"
        residual = block(
            features=32 * 2**stage,
            downsample=index == 0 and (stage > 1 or self.bottleneck),
            stride=stage > 1 or index > 0,
            block_name=name,
            name=f"{block.__name__}_{count}",
        )
        yield name, residual(x, {}, train=False)

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
