"""What every network here has in common: named features, in order of depth."""

from collections.abc import Iterator

import flax.linen as nn

from jnst.types import Array, Params


class FeatureExtractor(nn.Module):
    """A network that yields its features one after the other.

    A subclass gives `stages`, `layers` and `smallest_side`. `__call__` pulls stages only until it has what
    was asked for, so that nothing deeper is ever computed.
    """

    @property
    def layers(self) -> tuple[str, ...]:
        """The names that `stages` yields, in order of depth."""
        raise TypeError(f"{type(self).__name__} does not say which layers it has")

    def stages(self, x: Array, wanted: frozenset[str]) -> Iterator[tuple[str, Array]]:
        """Yield ``(layer, features)`` in order of depth; side branches not in ``wanted`` may be left out."""
        raise TypeError(f"{type(self).__name__} does not compute anything")

    def smallest_side(self, layer: str) -> int:
        """The smallest height or width of a picture for which ``layer`` is not empty."""
        raise TypeError(f"{type(self).__name__} does not say how small a picture may be")

    def held(self, names: frozenset[str]) -> "FeatureExtractor":
        """The part of the network whose parameters (flat names, ``conv1_1/kernel``) are in ``names``."""
        return self

    def collections(self, params: Params) -> dict[str, Params]:
        """Sort ``params`` into Flax's collections."""
        return {"params": params}

    @nn.compact
    def __call__(self, x: Array, layers: tuple[str, ...]) -> dict[str, Array]:
        """Compute the features of ``layers`` for a network input ``(n, h, w, 3)``."""
        wanted = frozenset(layers)
        taps: dict[str, Array] = {}
        for name, features in self.stages(x, wanted):
            if name in wanted:
                taps[name] = features
            if len(taps) == len(wanted):
                break
        return {name: taps[name] for name in layers}
