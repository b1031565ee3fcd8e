"""`Backbone`: a network together with what it wants to be fed."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import jax
import jax.numpy as jnp

from jnst.backbones.extractor import FeatureExtractor
from jnst.backbones.kernels.choice import PRECISIONS
from jnst.backbones.ops import PADDINGS, POOLINGS
from jnst.backbones.preprocessing import Preprocessing
from jnst.errors import ArgumentError, ImageError, WeightsError, did_you_mean
from jnst.types import Array, Features, Image, Params, RandomKey

OPTION_CHOICES: dict[str, Iterable[str]] = {
    "pooling": POOLINGS,
    "padding": PADDINGS,
    "input_padding": PADDINGS,
    "precision": PRECISIONS,
}
"""The values of the networks' options that are names."""

SWITCHES = ("rescale_pooling", "ceil_mode", "remat")
"""The options that are on or off."""


def check_options(name: str, options: Mapping[str, object], allowed: Iterable[str]) -> None:
    """Check the options of the network called ``name``.

    Raises:
        ArgumentError: One that is not allowed, or an unknown value.
    """
    for option, value in options.items():
        if option not in allowed:
            raise ArgumentError(f"{name} has no option {option!r}: it has {', '.join(allowed)}")
        if option in OPTION_CHOICES and value not in tuple(OPTION_CHOICES[option]):
            raise ArgumentError(f"{option} {value!r} is unknown: choose one of {', '.join(OPTION_CHOICES[option])}")


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A feature extractor and its preprocessing; hashable, so that it can be a static argument of `jax.jit`.

    The parameters are not part of it: `apply` takes them as an argument.

    Attributes:
        name: The architecture, a key of `BACKBONES`.
        network: The Flax module; with partial weights only the part that they reach.
        preprocessing: What the network was trained to be fed.
        training: Whose weights they are ("oxford", "torchvision" …); "random" without weights.
        all_layers: The layers of the whole architecture, in order of depth.
        content_layers: Candidates for the content layer, best first.
        style_layers: The usual style layers.
    """

    name: str
    network: FeatureExtractor
    preprocessing: Preprocessing
    training: str
    all_layers: tuple[str, ...]
    content_layers: tuple[str, ...]
    style_layers: tuple[str, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that can be asked for, in order of depth."""
        return self.network.layers

    @property
    def options(self) -> tuple[str, ...]:
        """The options that `with_options` takes."""
        fields = dataclasses.fields(self.network)
        return tuple(field.name for field in fields if field.name in (*OPTION_CHOICES, *SWITCHES))

    def with_options(self, **options: str | bool) -> "Backbone":
        """The same network with other options, as `jnst.make_backbone` takes them.

        Raises:
            ArgumentError: An option that the network does not have, or an unknown value.
        """
        if not options:
            return self
        check_options(self.name, options, self.options)
        network = dataclasses.replace(self.network, parent=None, **options)  # pyright: ignore[reportCallIssue]
        return dataclasses.replace(self, network=network)

    def init(self, key: RandomKey) -> Params:
        """Random parameters of the right shapes (He-normal kernels, zero biases)."""
        side = self.smallest_side(self.layers)
        variables = self.network.init(key, jnp.zeros((1, side, side, 3)), self.layers)
        return merge_collections(variables)

    def lay_out(self, params: Params) -> Params:
        """Parameters for many steps on the device where they are, as the network's ``precision`` wants them.

        Runs (`jnst.transfer.stylize` and its kin) do this themselves. Do it before a loop of your own, outside `jax.jit`:
        features and their gradients are computed faster, and in reverse mode only. On a CPU every larger kernel gets a
        faster form beside it (up to four times its size), "float32" and "auto" being float32 throughout unless the CPU
        has units for bfloat16; on other devices "auto" and "bfloat16" round all parameters.

        Args:
            params: Float32 parameters of this network.

        Returns:
            The parameters with all that `apply` needs; the very same where there is nothing to do.
        """
        return self.network.lay_out(params)

    def apply(self, params: Params, image: Image, layers: Sequence[str]) -> dict[str, Features]:
        """Compute the features of an image.

        Args:
            params: The network's parameters; the features have their dtype.
            image: ``(..., h, w, 3)``, sRGB in [0, 1].
            layers: Names out of `layers`. Nothing deeper than the deepest of them is computed.

        Returns:
            ``{layer: (..., h', w', c)}`` in the order of ``layers``.

        Raises:
            ArgumentError: A layer that the architecture does not have.
            WeightsError: A layer beyond those that the weights reach.
            ImageError: A shape that is not an image's, or an image too small for a layer.
        """
        layers = self.check_layers(layers)
        self.check_size(image, layers)
        batch, plane = image.shape[:-3], image.shape[-3:]
        x = self.preprocessing.apply(image).reshape(-1, *plane)
        taps = cast(dict[str, Array], self.network.apply(self.network.collections(params), x, layers))
        return {layer: features.reshape(*batch, *features.shape[1:]) for layer, features in taps.items()}

    def check_layers(self, layers: Iterable[str]) -> tuple[str, ...]:
        """Return ``layers`` as a tuple if each can be computed.

        Raises:
            ArgumentError: None at all, one twice, or a name that the architecture does not have.
            WeightsError: A layer beyond those that the weights reach.
        """
        layers = tuple(layers)
        if not layers or len(set(layers)) < len(layers):
            raise ArgumentError(f"layers {','.join(layers) or '(none)'}: name at least one layer, and each only once")
        for layer in layers:
            if layer in self.layers:
                continue
            if layer in self.all_layers:
                raise WeightsError(
                    f"layer {layer} of {self.name} is beyond these weights, which end at {self.layers[-1]}: "
                    "choose layers up to there, or load complete weights"
                )
            advice = did_you_mean(layer, self.all_layers, cutoff=0.5) or f"it has {', '.join(self.layers)}"
            raise ArgumentError(f"{self.name} has no layer {layer!r}: {advice}")
        return layers

    def smallest_side(self, layers: Iterable[str]) -> int:
        """The smallest height and width of an image from which all ``layers`` can be computed (2 at least)."""
        return max(2, *(self.network.smallest_side(layer) for layer in layers))

    def check_size(self, image: Array, layers: Iterable[str], name: str = "image") -> None:
        """Check that ``image`` is shaped like an image and large enough.

        Raises:
            ImageError: It is not; the message gives the smallest side.
        """
        shape = tuple(image.shape)
        if not jnp.issubdtype(image.dtype, jnp.floating):
            raise ImageError(
                f"`{name}` has dtype {image.dtype}, expected floats in [0, 1]: divide by 255 or use jnst.load_image"
            )
        if len(shape) < 3 or shape[-1] != 3:
            raise ImageError(f"`{name}` has shape {shape}, expected (..., h, w, 3): {_shape_advice(shape)}")
        layers = tuple(layers)
        side = self.smallest_side(layers)
        if min(shape[-3:-1]) < side:
            deepest = max(layers, key=self.layers.index)
            raise ImageError(
                f"`{name}` is {shape[-2]}x{shape[-3]} pixels, but {deepest} of {self.name} needs at least "
                f"{side}x{side}: enlarge it or choose a shallower layer"
            )


def _shape_advice(shape: tuple[int, ...]) -> str:
    if len(shape) >= 3 and shape[-3] == 3:
        return "move the channels last, for example with jnp.moveaxis(image, -3, -1)"
    if len(shape) == 2:
        return "repeat a grey image three times along a new last axis"
    return "load it with jnst.load_image"


def merge_collections(variables: Params) -> Params:
    """Join Flax's collections into one tree of parameters."""
    merged: dict[str, Params] = {}
    for collection in variables.values():
        merged = _merge(merged, collection)
    return merged


def _merge(left: Params, right: Params) -> dict[str, Params]:
    both = dict(left)
    for name, leaf in right.items():
        both[name] = _merge(both.get(name, {}), leaf) if isinstance(leaf, dict) else leaf
    return both


def flat_shapes(network: FeatureExtractor, side: int) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter by its flat name (``conv1_1/kernel``), in order of depth."""
    shapes: dict[str, tuple[int, ...]] = {}

    def walk(tree: Params, prefix: str) -> None:
        for name, leaf in tree.items():
            if isinstance(leaf, dict):
                walk(leaf, f"{prefix}{name}/")
            else:
                shapes[prefix + name] = tuple(leaf.shape)

    def trace(key: RandomKey) -> Array:
        walk(merge_collections(network.init(key, jnp.zeros((1, side, side, 3)), network.layers)), "")
        return jnp.zeros(())

    jax.eval_shape(trace, jax.random.key(0))
    return shapes
