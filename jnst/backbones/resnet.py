"""ResNets, composed of flaxmodels' residual blocks; parameters carry flaxmodels' names."""

from collections.abc import Iterator
from functools import partial

import flax.linen as nn

from jnst.backbones import ops
from jnst.backbones.extractor import Block, FeatureExtractor
from jnst.types import Array, Params

STATISTICS = ("mean", "var")
"""The leaves that Flax keeps in its ``batch_stats`` collection."""


class ResNet(FeatureExtractor):
    """A ResNet without its classifier.

    Layers: ``conv1``, ``relu1`` and, after their ReLU, the blocks ``block1_0``, ``block1_1`` …

    flaxmodels is imported when the network is first built, not before.

    Attributes:
        depths: The number of blocks in each of the four stages.
        bottleneck: Whether blocks are bottlenecks (50 layers and more) or basic.
        pooling: A key of `ops.POOLINGS`, for the one pooling behind the first convolution.
        rescale_pooling: As in `VGG`.

    References:
        He et al., Deep Residual Learning for Image Recognition, CVPR 2016.
    """

    depths: tuple[int, int, int, int] = (3, 4, 6, 3)
    bottleneck: bool = True
    pooling: str = "max"
    rescale_pooling: bool = False

    @property
    def layers(self) -> tuple[str, ...]:
        """The stem's two layers, then every block."""
        blocks = (f"block{stage}_{i}" for stage, depth in enumerate(self.depths, 1) for i in range(depth))
        return ("conv1", "relu1", *blocks)

    def blocks(self) -> Iterator[Block]:
        """The stem with its pooling, then every residual block."""
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
        # After a ReLU nothing is below zero, so that zeros at the border never win.
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
        """Every convolution and pooling is padded: one pixel is enough."""
        return 1

    def collections(self, params: Params) -> dict[str, Params]:
        """Sort the running means and variances of `BatchNorm` from the trained parameters."""
        return {"params": _select(params, statistics=False), "batch_stats": _select(params, statistics=True)}


def _select(tree: Params, *, statistics: bool) -> Params:
    branches = {name: _select(leaf, statistics=statistics) for name, leaf in tree.items() if isinstance(leaf, dict)}
    leaves = {
        name: leaf for name, leaf in tree.items() if not isinstance(leaf, dict) and (name in STATISTICS) == statistics
    }
    return {name: branch for name, branch in branches.items() if branch} | leaves
