"""VGG networks as Flax modules. Parameters have flaxmodels' names (``conv4_2/kernel``)."""

import dataclasses
import re
from collections.abc import Iterator
from functools import partial

from jnst.backbones import gates, ops
from jnst.backbones.kernels import algorithms
from jnst.backbones.modules import Block, Convolution, FeatureExtractor
from jnst.errors import ArgumentError
from jnst.types import Array, Params

Widths = tuple[tuple[int, ...], ...]
"""The number of filters of each convolution, block by block."""

VGG16_WIDTHS: Widths = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
VGG19_WIDTHS: Widths = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)
SLIM_WIDTHS: Widths = ((16,) * 2, (32,) * 2, (64,) * 4, (128,) * 4, (128,))
SLIM_HEADS = (64, 128, 256, 512, 512)
MINI_WIDTHS: Widths = ((16, 32), (48, 64), (96, 128), (256,))
CONVNET_WIDTHS: Widths = ((16,), (32,), (64,))

MAX_BLOCKS, MAX_CONVOLUTIONS, MAX_FILTERS = 5, 4, 2048
"""Limits of `parse_widths`."""


class VGG(FeatureExtractor):
    """Blocks of 3x3 convolutions with ReLUs, and a 2x2 pooling between blocks.

    Layers are ``convB_L`` (before the ReLU) and ``reluB_L`` (after it). ``heads`` adds ``auxB_1``: a 1x1 convolution
    and ReLU on top of ``reluB_1``.

    Attributes:
        widths: The number of filters of each convolution, block by block.
        pooling: A key of `ops.POOLINGS`.
        rescale_pooling: Scale pooled values to about those of max pooling (crowsonkb).
        padding: See `ops.Padding`.
        input_padding: The padding of the first 3x3 convolution; None: ``padding``.
        input_convolution: Begin with a 1x1 convolution ``conv0``, a preprocessing stored with the weights.
        heads: The number of filters of each block's head; empty: no heads.
        precision: A key of `algorithms.PRECISIONS`.

    References:
        Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015.
        Wang et al., Collaborative Distillation for Ultra-Resolution Universal Style Transfer, CVPR 2020 (heads).
    """

    has_gates = True
    widths: Widths = VGG19_WIDTHS
    pooling: str = "max"
    rescale_pooling: bool = False
    padding: ops.Padding = "zero"
    input_padding: ops.Padding | None = None
    input_convolution: bool = False
    heads: tuple[int, ...] = ()
    precision: str = "auto"

    @property
    def layers(self) -> tuple[str, ...]:
        """Each convolution, its ReLU, and the head on top of it."""
        names: list[str] = []
        for block, widths in enumerate(self.widths, 1):
            for index in range(1, len(widths) + 1):
                names += [f"conv{block}_{index}", f"relu{block}_{index}"]
                if index == 1 and block <= len(self.heads):
                    names.append(f"aux{block}_1")
        return tuple(names)

    def blocks(self) -> Iterator[Block]:
        """Convolutions up to and including a pooling."""
        return (partial(VGG._block, number=number) for number in range(1, len(self.widths) + 1))

    def _block(self, x: Array, wanted: frozenset[str], number: int) -> Iterator[tuple[str, Array]]:
        if number == 1 and self.input_convolution:
            x = Convolution(3, size=1, name="conv0")(x)
        widths = self.widths[number - 1]
        for index, width in enumerate(widths, 1):
            padding = self.input_padding if number == index == 1 else None
            x = Convolution(width, padding=padding or self.padding, name=f"conv{number}_{index}")(x)
            yield f"conv{number}_{index}", x
            relu, aux = f"relu{number}_{index}", f"aux{number}_{index}"
            if index == len(widths) and self.pooling == "max" and not wanted & {relu, aux}:
                # The ReLU commutes with max pooling; after it, it has a quarter of the elements.
                x = gates.pool(self, f"pool{number}", x, "max", padding=self.padding)
                yield f"pool{number}", gates.relu(self, relu, x, output_is_kept=False)
                return
            x = gates.relu(self, relu, x, output_is_kept=relu in wanted)
            yield relu, x
            if aux in wanted:
                yield aux, gates.relu(self, f"{aux}_relu", Convolution(self.heads[number - 1], size=1, name=aux)(x))
        pool = f"pool{number}"
        yield pool, gates.pool(self, pool, x, self.pooling, rescale=self.rescale_pooling, padding=self.padding)

    def prepare(self, params: Params) -> Params:
        """Prepare parameters for the device that holds them; see `Backbone.prepare`."""
        return algorithms.prepare(params, self.precision)

    def smallest_side(self, layer: str) -> int:
        """``2^(b-1)`` for a layer of block b, twice that with reflection padding, which needs two rows."""
        block = int(layer.partition("_")[0][-1])
        everywhere = "reflect" in ops.by_axis(self.padding)
        somewhere = everywhere or "reflect" in ops.by_axis(self.input_padding or self.padding)
        return max(2 ** (block - 1) * (2 if everywhere else 1), 2 if somewhere else 1)

    def truncated(self, names: frozenset[str]) -> "VGG":
        """The network up to the last convolution in ``names``."""
        widths = tuple(
            tuple(width for index, width in enumerate(block, 1) if f"conv{number}_{index}/kernel" in names)
            for number, block in enumerate(self.widths, 1)
        )
        return dataclasses.replace(self, widths=tuple(block for block in widths if block), parent=None)


def parse_widths(widths: object) -> Widths:
    """Parse the number of filters of each convolution, block by block.

    Args:
        widths: Text, with slashes between blocks and commas between convolutions, or nested sequences of ints.

    Returns:
        Nested tuples.

    Raises:
        ArgumentError: Anything else, or more than 5 blocks, 4 convolutions in a block or 2048 filters.

    Examples:
        >>> parse_widths("32,32/64")
        ((32, 32), (64,))
    """
    text = widths if isinstance(widths, str) else _join(widths)
    number = r"[1-9]\d{0,3}"
    if re.fullmatch(rf"{number}([,/]{number})*", text, re.ASCII):
        blocks = tuple(tuple(map(int, block.split(","))) for block in text.split("/"))
        if (
            len(blocks) <= MAX_BLOCKS
            and max(map(len, blocks)) <= MAX_CONVOLUTIONS
            and max(map(max, blocks)) <= MAX_FILTERS
        ):
            return blocks
    raise ArgumentError(
        f"widths {str(widths)[:60]!r} are not readable: expected numbers of filters from 1 to {MAX_FILTERS}, with "
        f"commas between the convolutions of a block (at most {MAX_CONVOLUTIONS}) and slashes between blocks (at most "
        f"{MAX_BLOCKS}), for example 16/32/64 or 32,32/64,64"
    )


def format_widths(widths: Widths) -> str:
    """Format widths as text, the inverse of `parse_widths`.

    Examples:
        >>> format_widths(((32, 32), (64,)))
        '32,32/64'
    """
    return "/".join(",".join(map(str, block)) for block in widths)


def _join(widths: object) -> str:
    """Nested sequences of ints as text; "" for anything else."""
    nested = isinstance(widths, tuple | list) and all(
        isinstance(block, tuple | list) and all(type(width) is int for width in block) for block in widths
    )
    return format_widths(tuple(map(tuple, widths))) if nested else ""  # pyright: ignore[reportArgumentType]
