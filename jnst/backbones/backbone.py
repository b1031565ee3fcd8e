"""`Backbone`: a network and its preprocessing."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp

from jnst.backbones.gates import GATES, Gates
from jnst.backbones.kernels.algorithms import PRECISIONS, multiplying
from jnst.backbones.modules import FeatureExtractor
from jnst.backbones.ops import PADDINGS, POOLINGS, Padding, by_axis
from jnst.backbones.preprocessing import Preprocessing
from jnst.errors import ArgumentError, ImageError, WeightsError, did_you_mean
from jnst.types import Array, Features, Image, Params, RandomKey, Wrap

OPTIONS: dict[str, tuple[str | bool, ...]] = {
    "pooling": tuple(POOLINGS),
    "rescale_pooling": (False, True),
    "padding": tuple(PADDINGS),
    "input_padding": tuple(PADDINGS),
    "ceil_mode": (False, True),
    "precision": tuple(PRECISIONS),
    "remat": (False, True),
}
"""The options of networks and their values. A network has those that are among its fields. A padding may be a pair, of
rows and of columns."""


def check_options(name: str, options: Mapping[str, object], allowed: Iterable[str]) -> None:
    """Check the options of the network called ``name``.

    Raises:
        ArgumentError: An option that is not in ``allowed``, or an unknown value.
    """
    for option, value in options.items():
        if option not in allowed:
            raise ArgumentError(f"{name} has no option {option!r}: it has {', '.join(allowed)}")
        pair = value if option.endswith("padding") and isinstance(value, tuple) and len(value) == 2 else (value,)
        if option in OPTIONS and any(one not in OPTIONS[option] for one in pair):
            raise ArgumentError(f"{option} {value!r} is unknown: choose one of {', '.join(map(str, OPTIONS[option]))}")


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A feature extractor and its preprocessing.

    A backbone holds no parameters and is hashable, so that it can be a static argument of `jax.jit`. `apply` takes the
    parameters first, like `flax.linen.Module.apply`; jnst's other functions take the image first.

    Attributes:
        name: The architecture, a key of `BACKBONES`.
        network: The Flax module; with partial weights, only the part that has parameters.
        preprocessing: The transformation of images that the network was trained with.
        training: Where the weights come from ("oxford", "torchvision" …); "random" without weights.
        all_layers: The layers of the complete architecture, in order of depth.
        content_layers: Candidates for the content layer, best first.
        style_layers: The usual style layers.
        maps: How many images of three channels it takes together, as one of ``3 * maps`` channels: see `apply`.

    Examples:
        >>> import jax, jnst
        >>> backbone = jnst.make_backbone("convnet", widths="4/8")
        >>> params = backbone.init(jax.random.key(0))
        >>> features = backbone.apply(params, jax.numpy.zeros((8, 6, 3)), ["relu1_1", "relu2_1"])
        >>> {layer: array.shape for layer, array in features.items()}
        {'relu1_1': (8, 6, 4), 'relu2_1': (4, 3, 8)}
    """

    name: str
    network: FeatureExtractor
    preprocessing: Preprocessing
    training: str
    all_layers: tuple[str, ...]
    content_layers: tuple[str, ...]
    style_layers: tuple[str, ...]
    maps: int = 1

    @property
    def channels(self) -> int:
        """The number of channels of an image."""
        return 3 * self.maps

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that `apply` can compute, in order of depth."""
        return self.network.layers

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the options that `with_options` takes."""
        return tuple(field.name for field in dataclasses.fields(self.network) if field.name in OPTIONS)

    @property
    def precision(self) -> str:
        """The network's ``precision``; "auto" for one that does not have this option."""
        return getattr(self.network, "precision", "auto")

    def with_options(self, **options: str | bool | tuple[str, str]) -> "Backbone":
        """Return the same network with other options; see `jnst.make_backbone`.

        Raises:
            ArgumentError: An option that the network does not have, or an unknown value.
        """
        if not options:
            return self
        check_options(self.name, options, self.options)
        # A pair of equal paddings is one padding, so that equal networks are equal.
        options = {
            name: value[0] if isinstance(value, tuple) and value[0] == value[1] else value
            for name, value in options.items()
        }
        network = dataclasses.replace(self.network, parent=None, **options)  # pyright: ignore[reportCallIssue]
        return dataclasses.replace(self, network=network)

    def with_padding(self, padding: str, along: Wrap = (True, True)) -> "Backbone":
        """Return the same network with another padding of rows, of columns, or of both.

        With ``"circular"``, an image stands for its endless repetition. This is exact where the side is a multiple of
        the stride of the deepest layer, 2^(b-1) in block b of a VGG; elsewhere windows of poolings overlap at the seam.

        Args:
            padding: A key of `jnst.backbones.PADDINGS`.
            along: Whether it is the padding of rows, and whether it is that of columns.

        Raises:
            ArgumentError: An unknown padding, or a network without the option ``padding``.
        """
        if not any(along):
            return self
        if padding == "circular" and "padding" not in self.options:
            raise ArgumentError(
                f"{self.name} has no circular padding, which seamless images need: choose a VGG network, such as vgg19"
            )
        options: dict[str, Padding] = {}
        for name in ("padding", "input_padding"):
            own = getattr(self.network, name, None)
            if name == "padding" or own is not None:
                rows, columns = (
                    padding if changes else mode for mode, changes in zip(by_axis(own or "zero"), along, strict=True)
                )
                options[name] = rows, columns
        return self.with_options(**options)

    def init(self, key: RandomKey) -> Params:
        """Draw random float32 parameters: zero biases, and He-normal kernels except for ResNets."""
        side = self.smallest_side(self.layers)
        variables = self.network.init(key, jnp.zeros((1, side, side, 3), jnp.float32), self.layers)
        return merge_collections(variables)

    def prepare(self, params: Params) -> Params:
        """Prepare parameters for repeated use on the device that holds them, in the network's ``precision``.

        `jnst.stylize` and the other run functions do this themselves. Before a loop of your own, call it once, outside
        `jax.jit`; then pass the result to `apply`.

        - "float32" and "tf32" add Winograd-transformed kernels on CPUs, and change nothing on GPUs and TPUs.
        - "bfloat16" adds bfloat16 copies of the larger kernels on CPUs, and casts all parameters on GPUs and TPUs.
        - "auto" is "float32" on CPUs and "bfloat16" on GPUs and TPUs.

        Only float32 parameters are prepared. ResNets have no ``precision`` and return ``params``.

        Errors are relative to the largest activation of a layer: about 1e-5 in "float32", 4e-4 in "tf32" on NVIDIA GPUs
        (3.7e-4 measured on an H200), and 1e-2 in "bfloat16". "float32" and "tf32" hold for every call of `apply`,
        prepared or not. Of the others, unprepared parameters know nothing: `apply` then multiplies float32 values as
        ``jax_default_matmul_precision`` says, which without a value is TF32 on those GPUs.

        Parameters prepared on a CPU support gradients of any order in reverse mode, but not forward mode (`jax.jvp`,
        `jax.jacfwd`, `jax.hessian`): use the unprepared parameters for that. Do not train prepared parameters: the
        original kernel and its prepared form would be updated separately.

        Args:
            params: Float32 parameters of this network.

        Returns:
            Parameters for `apply`, up to five times as large; the same object if there is nothing to do.
        """
        return self.network.prepare(params)

    def apply(self, params: Params, image: Image, layers: Sequence[str]) -> dict[str, Features]:
        """Compute the features of an image.

        Several ``maps`` go through the network one by one. Their features are concatenated, so that statistics of a
        layer's channels are also those between maps.

        Args:
            params: The network's parameters, which determine the dtype of the features.
            image: ``(..., h, w, 3 * maps)``, sRGB in [0, 1].
            layers: Names from `layers`. Nothing deeper than the deepest of them is computed.

        Returns:
            ``{layer: (..., h', w', c)}`` in the order of ``layers``.

        Raises:
            ArgumentError: A layer that the architecture does not have.
            WeightsError: A layer beyond the end of partial weights.
            ImageError: Not the shape of an image, or an image too small for a layer.
        """
        layers = self.check_layers(layers)
        self.check_size(image, layers)
        image = image if self.maps == 1 else _separate(image)
        batch, plane = image.shape[:-3], image.shape[-3:]
        found = self.run(params, self.preprocessing.apply(image).reshape(-1, *plane), layers)
        features = {layer: array.reshape(*batch, *array.shape[1:]) for layer, array in found.items()}
        return features if self.maps == 1 else {layer: _joined(array) for layer, array in features.items()}

    def run(
        self,
        params: Params,
        x: Any,
        layers: tuple[str, ...],
        part: tuple[int, int] | None = None,
        gates: Gates | None = None,
    ) -> dict[str, Any]:
        """Run the network, or some of its blocks, on preprocessed inputs: see `FeatureExtractor.__call__`.

        With the gates that `run_noting_gates` has found for the same layers and blocks, ReLUs and max poolings pass on
        what they did there: values and gradients are the same at that ``x``, and activations need not be known.
        """
        variables = self.network.split_collections(params) | ({} if gates is None else {GATES: gates})
        with multiplying(self.precision):
            return cast(Any, self.network.apply(variables, x, layers, part))

    def run_noting_gates(
        self, params: Params, x: Any, layers: tuple[str, ...], part: tuple[int, int] | None = None
    ) -> tuple[dict[str, Any], Gates]:
        """`run`, and which way the activations took at ReLUs and max poolings: see `jnst.backbones.gates`."""
        variables = self.network.split_collections(params)
        with multiplying(self.precision):
            found, noted = self.network.apply(variables, x, layers, part, mutable=[GATES])
        return cast(Any, found), cast(Any, noted).get(GATES, {})

    def shapes(self, size: tuple[int, int], layers: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """The shapes ``(h', w', c)`` of layers for images of a height and width."""
        return _feature_shapes(self, size, tuple(layers)) if layers else {}

    def check_layers(self, layers: Iterable[str]) -> tuple[str, ...]:
        """Return ``layers`` as a tuple if all of them can be computed.

        Raises:
            ArgumentError: No layer, a repeated one, or a name that the architecture does not have.
            WeightsError: A layer beyond the end of partial weights.
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
        """The smallest height and width of an image from which all ``layers`` can be computed; at least 2."""
        return max([2, *(self.network.smallest_side(layer) for layer in layers)])

    def check_size(self, image: Array, layers: Iterable[str], name: str = "image") -> None:
        """Check that ``image`` has the dtype and shape of an image and is large enough for ``layers``.

        Args:
            image: Expected to be ``(..., h, w, 3 * maps)``; only its shape and dtype are read.
            layers: Names from `layers`.
            name: The argument's name in error messages.

        Raises:
            ImageError: It does not, or it is too small; the message gives the smallest side.
        """
        shape = tuple(image.shape)
        if not jnp.issubdtype(image.dtype, jnp.floating):
            raise ImageError(
                f"`{name}` has dtype {image.dtype}, expected floats in [0, 1]: divide by 255 or use jnst.load_image"
            )
        if len(shape) < 3 or shape[-1] != self.channels:
            advice = _shape_advice(shape) if self.maps == 1 else f"concatenate {self.maps} images along the last axis"
            raise ImageError(f"`{name}` has shape {shape}, expected (..., h, w, {self.channels}): {advice}")
        layers = tuple(layers)
        side = self.smallest_side(layers)
        if min(shape[-3:-1]) < side:
            deepest = max(layers, key=self.layers.index)
            raise ImageError(
                f"`{name}` is {shape[-2]}x{shape[-3]} pixels, but {deepest} of {self.name} needs at least "
                f"{side}x{side}: enlarge it or choose a shallower layer"
            )


def _separate(image: Array) -> Array:
    """``(..., h, w, 3 * maps)`` to ``(..., maps, h, w, 3)``."""
    return jnp.moveaxis(image.reshape(*image.shape[:-1], -1, 3), -2, -4)


def _joined(features: Array) -> Array:
    """``(..., maps, h, w, c)`` to ``(..., h, w, maps * c)``."""
    by_position = jnp.moveaxis(features, -4, -2)
    return by_position.reshape(*by_position.shape[:-2], -1)


@functools.lru_cache(maxsize=256)
def _feature_shapes(backbone: Backbone, size: tuple[int, int], layers: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    image = jax.ShapeDtypeStruct((*size, backbone.channels), jnp.float32)
    params = jax.eval_shape(backbone.init, jax.random.key(0))
    features = jax.eval_shape(lambda params, image: backbone.apply(params, image, layers), params, image)
    return {layer: array.shape for layer, array in features.items()}


def _shape_advice(shape: tuple[int, ...]) -> str:
    if len(shape) >= 3 and shape[-3] == 3:
        return "move the channels last, for example with jnp.moveaxis(image, -3, -1)"
    if len(shape) == 2:
        return "repeat a grey image three times along a new last axis"
    if len(shape) >= 3 and shape[-1] == 1:
        return "repeat the grey channel, with jnp.repeat(image, 3, axis=-1)"
    return "load it with jnst.load_image"


def merge_collections(variables: Params) -> Params:
    """Merge Flax's variable collections into one tree of parameters."""
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
    """The shape of each parameter by its flat name (``conv1_1/kernel``), in order of depth.

    Args:
        network: A Flax module.
        side: The height and width of an image that is large enough for all layers.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def walk(tree: Params, prefix: str) -> None:
        for name, leaf in tree.items():
            if isinstance(leaf, dict):
                walk(leaf, f"{prefix}{name}/")
            else:
                shapes[prefix + name] = tuple(leaf.shape)

    def trace() -> Array:
        key = jax.random.key(0)
        # The shapes are read here because `jax.eval_shape` would return the parameters sorted by name.
        walk(merge_collections(network.init(key, jnp.zeros((1, side, side, 3)), network.layers)), "")
        return jnp.zeros(())

    jax.eval_shape(trace)
    return shapes
