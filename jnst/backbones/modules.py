"""The Flax modules that all networks share: the base class and the convolution."""

import abc
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jnst.backbones import ops
from jnst.backbones.kernels import algorithms
from jnst.types import Array, Params

Block = Callable[[Any, Array, frozenset[str]], Iterator[tuple[str, Array]]]
"""A part of a network: ``block(network, x, wanted)`` yields ``(name, features)`` in order of depth.

The last features yielded are the input of the next block. Names that are not in the network's `layers` (a pooling at
the end of a block) only serve that purpose. Side branches may be skipped unless they are in ``wanted``. ``x`` may also
be a `Window`: then all features are.
"""


END = "end"
"""In place of a layer: what a part of a network hands to the next one."""


class FeatureExtractor(nn.Module, abc.ABC, kw_only=True):
    """The base class of all networks: a sequence of blocks with named features.

    A subclass implements `blocks`, `layers` and `smallest_side`. `__call__` stops as soon as it has the requested
    features, so that nothing deeper is computed.

    Attributes:
        remat: Rematerialise: keep only the inputs of blocks and the requested features for the backward pass, and
            recompute everything else, block by block. Values do not change. A step of a ResNet needs a ninth less
            memory, at the cost of a second forward pass. VGG and SqueezeNet need more memory with it, because their
            ReLUs and poolings already store little for the backward pass. On CPUs, XLA merges the two forward passes
            again unless the program is compiled with
            ``compiler_options={"xla_disable_hlo_passes": "cse_barrier_expander"}``, as jnst's own programs are.

    References:
        Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
    """

    remat: bool = False
    has_windows: ClassVar[bool] = True
    """Whether the blocks also take a `Window` of their input."""
    has_gates: ClassVar[bool] = False
    """Whether the only nonlinear parts of the blocks are those of `jnst.backbones.gates`, by the option ``pooling``."""

    @property
    @abc.abstractmethod
    def layers(self) -> tuple[str, ...]:
        """The names of the features, in order of depth."""

    @abc.abstractmethod
    def blocks(self) -> Iterator[Block]:
        """Yield the blocks in order. Each is recomputed as a whole with ``remat``."""

    @abc.abstractmethod
    def smallest_side(self, layer: str) -> int:
        """The smallest height and width of an image from which ``layer`` can be computed."""

    def truncated(self, names: frozenset[str]) -> "FeatureExtractor":
        """The part of the network whose parameters are in ``names`` (flat names such as ``conv1_1/kernel``)."""
        return self

    def split_collections(self, params: Params) -> dict[str, Params]:
        """Split ``params`` into Flax's variable collections."""
        return {"params": params}

    def prepare(self, params: Params) -> Params:
        """Prepare parameters for the device that holds them; see `Backbone.prepare`."""
        return params

    @nn.compact
    def __call__(self, x: Any, layers: tuple[str, ...], part: tuple[int, int] | None = None) -> dict[str, Any]:
        """Compute the features of ``layers`` for a preprocessed batch ``(n, h, w, 3)``.

        With ``part``, run only the blocks from one number to another (exclusive), on the input of the first of them, or
        on a `Window` of it. The result then holds those of ``layers`` that they contain, and the input of the next
        block as `END`; ``layers`` names the layers of later blocks, too.
        """
        features: dict[str, Any] = {}
        # Initialisation needs no gradient, and `nn.remat` would sort the parameters by name instead of depth.
        rematerialise = self.remat and not self.is_initializing()
        for block in itertools.islice(self.blocks(), *(part or (None,))):
            run = partial(_run_block, block=block, wanted=frozenset(layers) - features.keys())
            x, found = nn.remat(run)(self, x) if rematerialise else run(self, x)
            features |= found
            if len(features) == len(layers):
                break
        if part is not None:
            return {name: features[name] for name in layers if name in features} | {END: x}
        return {name: features[name] for name in layers}


def _run_block(
    network: FeatureExtractor, x: Array, block: Block, wanted: frozenset[str]
) -> tuple[Array, dict[str, Array]]:
    """Return the input of the next block and the wanted features; stop after the last wanted ones."""
    found: dict[str, Array] = {}
    features = x
    for name, features in block(network, x, wanted):
        if name in wanted:
            found[name] = features
        if len(found) == len(wanted):
            break
    return features, found


class Convolution(nn.Module):
    """A square convolution with the parameters ``kernel`` and ``bias``; see `ops.convolve`."""

    features: int
    size: int = 3
    stride: int = 1
    padding: ops.Padding | None = "zero"

    @nn.compact
    def __call__(self, x: ops.Map) -> ops.Map:
        """``(n, h, w, c)`` to ``(n, h', w', features)``, in the dtype of the kernel."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        correlate = algorithms.find_correlation(self.variables.get("params", {}), x)
        return ops.convolve(x, kernel, bias, stride=self.stride, padding=self.padding, correlate=correlate)
