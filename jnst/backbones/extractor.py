"""What every network here has in common: named features, block by block, in order of depth."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import flax.linen as nn

from jnst.types import Array, Params

Block = Callable[[Any, Array, frozenset[str]], Iterator[tuple[str, Array]]]
"""``block(network, x, wanted)`` yields ``(name, features)`` in order of depth; the last goes on to the next block.

Names that are not among the network's `layers` (a pooling at the end of a block) only go on. Side branches that are not
in ``wanted`` may be left out.
"""


class FeatureExtractor(nn.Module, kw_only=True):
    """A network that yields its features one after the other.

    A subclass gives `blocks`, `layers` and `smallest_side`. `__call__` pulls features only until it has what was asked
    for, so that nothing deeper is ever computed.

    Attributes:
        remat: Keep only what goes from block to block and what is asked for until the gradient is computed; the rest is
            computed again then, block by block (rematerialisation). Values stay the same. A step of a ResNet needs a
            ninth less memory, at the cost of a second forward pass; VGG's and SqueezeNet's ReLUs and poolings leave
            little for the gradient anyway, and need rather more with it. A ``jax.jit`` of one's own on a CPU saves
            nothing without ``compiler_options=jnst.solve.compilation.OPTIONS["cpu"]``: XLA would merge both passes again.

    References:
        Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
    """

    remat: bool = False

    @property
    def layers(self) -> tuple[str, ...]:
        """The names that can be asked for, in order of depth."""
        raise TypeError(f"{type(self).__name__} does not say which layers it has")

    def blocks(self) -> Iterator[Block]:
        """Yield the network's parts in order; what lies inside one is computed again together, with ``remat``."""
        raise TypeError(f"{type(self).__name__} does not compute anything")

    def smallest_side(self, layer: str) -> int:
        """The smallest height or width of an image for which ``layer`` is not empty."""
        raise TypeError(f"{type(self).__name__} does not say how small an image may be")

    def held(self, names: frozenset[str]) -> "FeatureExtractor":
        """The part of the network whose parameters (flat names, ``conv1_1/kernel``) are in ``names``."""
        return self

    def collections(self, params: Params) -> dict[str, Params]:
        """Sort ``params`` into Flax's collections."""
        return {"params": params}

    def lay_out(self, params: Params) -> Params:
        """The parameters as the device computes with them fastest; these, unless a subclass knows better."""
        return params

    @nn.compact
    def __call__(self, x: Array, layers: tuple[str, ...]) -> dict[str, Array]:
        """Compute the features of ``layers`` for a network input ``(n, h, w, 3)``."""
        taps: dict[str, Array] = {}
        # Initialisation has no gradient, and a rematerialised one would sort the parameters by name instead of depth.
        again = self.remat and not self.is_initializing()
        for block in self.blocks():
            pull = partial(_pull, block=block, wanted=frozenset(layers) - taps.keys())
            x, found = nn.remat(pull)(self, x) if again else pull(self, x)
            taps |= found
            if len(taps) == len(layers):
                break
        return {name: taps[name] for name in layers}


def _pull(network: FeatureExtractor, x: Array, block: Block, wanted: frozenset[str]) -> tuple[Array, dict[str, Array]]:
    """What goes on to the next block, and the wanted features; nothing behind the last of all that are wanted."""
    taps: dict[str, Array] = {}
    features = x
    for name, features in block(network, x, wanted):
        if name in wanted:
            taps[name] = features
        if len(taps) == len(wanted):
            break
    return features, taps
