"""VGG networks, as Flax Linen modules whose parameters are named as flaxmodels names them (``conv4_2/kernel``)."""

import dataclasses
from collections.abc import Iterator
from functools import partial

import flax.linen as nn

from jnst.backbones import ops
from jnst.backbones.extractor import Block, FeatureExtractor
from jnst.backbones.kernels import choice
from jnst.types import Array, Params

Widths = tuple[tuple[int, ...], ...]

VGG16_WIDTHS: Widths = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
VGG19_WIDTHS: Widths = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)
SLIM_WIDTHS: Widths = ((16,) * 2, (32,) * 2, (64,) * 4, (128,) * 4, (128,))
MINI_WIDTHS: Widths = ((16, 32), (48, 64), (96, 128), (256,))
SLIM_HEADS = (64, 128, 256, 512, 512)


class Convolution(nn.Module):
    """A square convolution with bias, after `ops.convolve`."""

    features: int
    size: int = 3
    stride: int = 1
    padding: str | None = "zero"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """``(n, h, w, c)`` to ``(n, h', w', features)``."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        faster = choice.laid_out(self.variables.get("params", {}), x)
        return ops.convolve(x, kernel, bias, stride=self.stride, padding=self.padding, faster=faster)


class VGG(FeatureExtractor):
    """Blocks of 3x3 convolutions with ReLUs, a 2x2 pooling between them.

    Layers are ``convB_L`` (before the ReLU) and ``reluB_L`` (after it). ``heads`` adds ``auxB_1``: a 1x1
    convolution and ReLU on ``reluB_1``.

    Attributes:
        widths: The number of filters of every convolution, block by block.
        pooling: A key of `ops.POOLINGS`.
        rescale_pooling: Multiply pooled values so that they keep max pooling's size (crowsonkb).
        padding: A key of `ops.PADDINGS`.
        input_padding: Another padding for the first 3x3 convolution alone.
        input_convolution: Begin with a 1x1 convolution ``conv0``, a learned or stored preprocessing.
        heads: The number of filters of every block's head; none if empty.
        precision: A key of `choice.PRECISIONS`, for parameters that are laid out.

    References:
        Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015.
        Wang et al., Collaborative Distillation for Ultra-Resolution Universal Style Transfer, CVPR 2020 (heads).
    """

    widths: Widths = VGG19_WIDTHS
    pooling: str = "max"
    rescale_pooling: bool = False
    padding: str = "zero"
    input_padding: str | None = None
    input_convolution: bool = False
    heads: tuple[int, ...] = ()
    precision: str = "auto"

    @property
    def layers(self) -> tuple[str, ...]:
        """Every convolution, its ReLU, and the heads behind theirs."""
        names: list[str] = []
        for block, widths in enumerate(self.widths, 1):
            for index in range(1, len(widths) + 1):
                names += [f"conv{block}_{index}", f"relu{block}_{index}"]
                if index == 1 and block <= len(self.heads):
                    names.append(f"aux{block}_1")
        return tuple(names)

    def blocks(self) -> Iterator[Block]:
        """Each up to its pooling."""
        return (partial(VGG._block, number=number) for number in range(1, len(self.widths) + 1))

    def _block(self, x: Array, wanted: frozenset[str], number: int) -> Iterator[tuple[str, Array]]:
        if number == 1 and self.input_convolution:
            x = Convolution(3, size=1, name="conv0")(x)
        widths = self.widths[number - 1]
        for index, width in enumerate(widths, 1):
            x = Convolution(width, padding=self._padding(number, index), name=f"conv{number}_{index}")(x)
            yield f"conv{number}_{index}", x
            relu, aux = f"relu{number}_{index}", f"aux{number}_{index}"
            if index == len(widths) and self.pooling == "max" and not wanted & {relu, aux}:
                # The same in either order; this one rectifies a quarter of the values.
                yield f"pool{number}", ops.relu(ops.max_pool(x), kept=False)
                return
            x = ops.relu(x, kept=relu in wanted)
            yield relu, x
            if aux in wanted:
                yield aux, ops.relu(Convolution(self.heads[number - 1], size=1, name=aux)(x))
        yield f"pool{number}", ops.pool(x, self.pooling, rescale=self.rescale_pooling)

    def _padding(self, block: int, index: int) -> str:
        first = block == index == 1 and self.input_padding is not None
        return self.input_padding if first and self.input_padding else self.padding

    def lay_out(self, params: Params) -> Params:
        """See `choice.lay_out`."""
        return choice.lay_out(params, self.precision)

    def smallest_side(self, layer: str) -> int:
        """``2^(b-1)`` for a layer of block b; reflection needs two rows to reflect."""
        block = int(layer.partition("_")[0][-1])
        reflects = "reflect" in (self.padding, self.input_padding)
        return max(2 ** (block - 1) * (2 if self.padding == "reflect" else 1), 2 if reflects else 1)

    def held(self, names: frozenset[str]) -> "VGG":
        """The network cut off behind the last convolution in ``names``."""
        widths = tuple(
            tuple(width for index, width in enumerate(block, 1) if f"conv{number}_{index}/kernel" in names)
            for number, block in enumerate(self.widths, 1)
        )
        return dataclasses.replace(self, widths=tuple(block for block in widths if block), parent=None)
