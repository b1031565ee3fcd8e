"""What is minimised: weighted losses on layers, and the sum of them.

total(x) = Σ wᵢ content_lossᵢ(F_lᵢ(x)) + Σ vⱼ Σ_r s_r style_lossⱼ(F_lⱼ(x), guide_r) + Σ uₖ regularizerₖ(x)

with one region r that is the whole image, unless there are masks.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jnst.backbones import Backbone
from jnst.errors import ArgumentError
from jnst.losses import FeatureLoss, Gram, Regularizer, SquaredError
from jnst.losses.gradient import unit_gradient
from jnst.types import Array, Features, Image, Params, PerImage, RandomKey

Weight = float | Array
IMAGE = "image"
"""In place of a layer: the image itself, as a layer with 3 channels."""

LARGEST_WEIGHT = 1e20
"""Beyond it a float32 loss overflows."""


@partial(jax.tree_util.register_dataclass, data_fields=["weight"], meta_fields=["layers", "loss", "normalize_gradient"])
@dataclasses.dataclass(frozen=True)
class FeatureTerm:
    """A loss on one layer, or a joint loss on several. ``weight`` is a leaf of the pytree, the rest its structure.

    Attributes:
        layers: One layer, or those of a joint loss; `IMAGE` stands for the image itself.
        loss: See `jnst.losses`.
        weight: Factor of the loss.
        normalize_gradient: Divide the gradient by its 1-norm (`jnst.losses.gradient`).
    """

    layers: tuple[str, ...]
    loss: FeatureLoss
    weight: Array
    normalize_gradient: bool = False

    @property
    def name(self) -> str:
        """The layers, joined by "+"."""
        return "+".join(self.layers)

    def pick(self, by_layer: Mapping[str, Array]) -> Any:
        """What the loss is given: one layer's array, or a tuple."""
        return tuple(by_layer[layer] for layer in self.layers) if self.loss.joint else by_layer[self.layers[0]]


@partial(jax.tree_util.register_dataclass, data_fields=["weight"], meta_fields=["name", "loss"])
@dataclasses.dataclass(frozen=True)
class ImageTerm:
    """A regularizer, under the name that it has in tables and logs."""

    name: str
    loss: Regularizer
    weight: Array


@partial(jax.tree_util.register_dataclass, data_fields=["content", "style", "regularizers"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Objective:
    """A sum of weighted losses: a pytree whose leaves are the weights.

    Changing a weight therefore never compiles again, and `jax.vmap` over weights works. Build one with
    `make_objective`, join several with ``+``, change one with `dataclasses.replace` or `jax.tree.map`.

    Attributes:
        content: Terms whose targets are fitted to the content image.
        style: Terms whose targets are fitted to the style image.
        regularizers: Terms on the image itself.
    """

    content: tuple[FeatureTerm, ...] = ()
    style: tuple[FeatureTerm, ...] = ()
    regularizers: tuple[ImageTerm, ...] = ()

    def __add__(self, other: "Objective") -> "Objective":
        """The terms of both."""
        return Objective(self.content + other.content, self.style + other.style, self.regularizers + other.regularizers)

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer of the network that is needed, each once; without `IMAGE`."""
        return network_layers(self.content + self.style)


@partial(jax.tree_util.register_dataclass, data_fields=["target", "guide", "weight"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Region:
    """What one term compares one region with: the target, the region's guide (None: everywhere), and its weight."""

    target: Any
    guide: Any = None
    weight: Array | float = 1.0


@partial(jax.tree_util.register_dataclass, data_fields=["content", "style"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Targets:
    """What `jnst.fit_targets` computed: a target for each content term, the regions of each style term."""

    content: tuple[Any, ...] = ()
    style: tuple[tuple[Region, ...], ...] = ()


def network_layers(terms: Sequence[FeatureTerm]) -> tuple[str, ...]:
    """The layers of ``terms``, each once, without `IMAGE`."""
    return tuple(dict.fromkeys(layer for term in terms for layer in term.layers if layer != IMAGE))


def features_of(image: Image, layers: tuple[str, ...], params: Params, backbone: Backbone) -> dict[str, Features]:
    """The features of an image by layer, and the image itself as `IMAGE`."""
    return {IMAGE: image} | (backbone.apply(params, image, layers) if layers else {})


def make_objective(
    *,
    content_layers: Sequence[str] = (),
    style_layers: Sequence[str] = (),
    content_weight: Weight = 1.0,
    style_weight: Weight = 1.0,
    content_layer_weights: Sequence[Weight] | None = None,
    style_layer_weights: Sequence[Weight] | None = None,
    content_loss: FeatureLoss = SquaredError(),  # noqa: B008 - frozen
    style_loss: FeatureLoss = Gram(),  # noqa: B008 - frozen
    regularizers: Mapping[str, tuple[Regularizer, Weight]] | None = None,
    normalize_gradients: bool = False,
) -> Objective:
    """Build an `Objective` with one content loss and one style loss on several layers.

    The weight of a term is ``content_weight * content_layer_weights[i]``; layer weights are 1 unless given. A joint
    loss is one term on all layers.

    Args:
        content_layers: Layers for the content loss; "image" is the image itself.
        style_layers: Layers for the style loss.
        content_weight: Factor of all content terms.
        style_weight: Factor of all style terms.
        content_layer_weights: One factor for each content layer.
        style_layer_weights: One factor for each style layer.
        content_loss: See `jnst.losses`.
        style_loss: See `jnst.losses`.
        regularizers: ``{name: (regularizer, weight)}``.
        normalize_gradients: Divide the gradient of every content and style term by its 1-norm.

    Raises:
        ArgumentError: A layer twice, not as many weights as layers, layer weights for a joint loss, or a weight that is
            negative, not finite or above 1e20.
    """
    content = _feature_terms("content", content_layers, content_loss, content_weight, content_layer_weights)
    style = _feature_terms("style", style_layers, style_loss, style_weight, style_layer_weights)
    content, style = (
        tuple(dataclasses.replace(term, normalize_gradient=normalize_gradients) for term in terms)
        for terms in (content, style)
    )
    images = tuple(
        ImageTerm(name, loss, _weight(f"{name} weight", weight))
        for name, (loss, weight) in (regularizers or {}).items()
    )
    return Objective(content, style, images)


def _feature_terms(
    kind: str, layers: Sequence[str], loss: FeatureLoss, weight: Weight, layer_weights: Sequence[Weight] | None
) -> tuple[FeatureTerm, ...]:
    if len(set(layers)) < len(layers):
        raise ArgumentError(f"{kind} layers {','.join(layers)}: name each only once")
    common = _weight(f"{kind} weight", weight)
    if loss.joint and layer_weights is not None:
        raise ArgumentError(f"{kind} layer weights: {type(loss).__name__} takes all layers as one, leave them out")
    if loss.joint:
        return (FeatureTerm(tuple(layers), loss, common),) if layers else ()
    factors = [1.0] * len(layers) if layer_weights is None else list(layer_weights)
    if len(factors) != len(layers):
        raise ArgumentError(
            f"{len(factors)} {kind} layer weights for {len(layers)} {kind} layers ({','.join(layers)}): "
            "give one weight a layer"
        )
    return tuple(
        FeatureTerm((layer,), loss, common * _weight(f"{kind} weight of {layer}", factor))
        for layer, factor in zip(layers, factors, strict=True)
    )


def _weight(name: str, value: Weight) -> Array:
    if not isinstance(value, Tracer) and not _is_usable(np.asarray(value)):
        raise ArgumentError(f"{name} {value} is not usable: weights lie between 0 and {LARGEST_WEIGHT:g}")
    return jnp.asarray(value, jnp.float32)


def _is_usable(weight: np.ndarray) -> bool:
    return jnp.issubdtype(weight.dtype, jnp.number) and bool((weight >= 0).all() and (weight <= LARGEST_WEIGHT).all())


def total_loss(
    image: Image,
    objective: Objective,
    targets: Targets,
    params: Params,
    *,
    backbone: Backbone,
    key: RandomKey | None = None,
) -> tuple[PerImage, dict[str, PerImage]]:
    """Evaluate the objective.

    Args:
        image: ``(..., h, w, 3)`` in [0, 1].
        objective: The terms and their weights.
        targets: From `fit_targets` with the same objective.
        params: The network's parameters.
        backbone: The network (static).
        key: For losses that draw at random (`jnst.losses.SlicedWasserstein`); without one they draw the same each time.

    Returns:
        The total, of shape ``(...)``, and its parts, each **weighted** and of shape ``(...)``, by the names
        ``content/LAYER``, ``style/LAYER`` (``style/LAYER/REGION`` with masks, regions counted from 1) and the
        regularizers' names; several losses on one layer are one part. The parts add up to the total.
    """
    features = features_of(image, objective.layers, params, backbone)
    parts: dict[str, PerImage] = {}
    for index, (name, term, region) in enumerate(_terms(objective, targets)):
        drawn = None if key is None else jax.random.fold_in(key, index)
        value = _value(term, region, features, drawn)
        parts[name] = parts[name] + value if name in parts else value
    parts |= {term.name: term.weight * term.loss.loss(image) for term in objective.regularizers}
    return sum(parts.values(), jnp.zeros(image.shape[:-3], jnp.float32)), parts


def _terms(objective: Objective, targets: Targets) -> Iterator[tuple[str, FeatureTerm, Region]]:
    for term, target in zip(objective.content, targets.content, strict=True):
        yield f"content/{term.name}", term, Region(target)
    for term, regions in zip(objective.style, targets.style, strict=True):
        for number, region in enumerate(regions, 1):
            yield f"style/{term.name}" + (f"/{number}" if region.guide is not None else ""), term, region


def _value(term: FeatureTerm, region: Region, features: Mapping[str, Features], key: RandomKey | None) -> PerImage:
    weight = term.weight * region.weight
    seen = term.pick(features)
    if term.normalize_gradient:
        seen = jax.tree.map(lambda layer: unit_gradient(layer, weight), seen)
    return weight * term.loss.loss(seen, region.target, region.guide, key)
