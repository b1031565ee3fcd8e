"""What is minimised: weighted losses on layers, and the targets fitted to content and style.

total(x) = Σ wᵢ content_lossᵢ(F_lᵢ(x)) + Σ vⱼ style_lossⱼ(F_lⱼ(x)) + Σ uₖ regularizerₖ(x)
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jnst.backbones import Backbone
from jnst.errors import JnstError
from jnst.losses import FeatureLoss, Gram, Regularizer, SquaredError
from jnst.types import Array, Features, Image, Params, PerPicture

Weight = float | Array
LARGEST_WEIGHT = 1e20
"""Beyond it a float32 loss overflows."""


@partial(jax.tree_util.register_dataclass, data_fields=["weight"], meta_fields=["layer", "loss"])
@dataclasses.dataclass(frozen=True)
class FeatureTerm:
    """A loss on one layer. ``weight`` is a leaf of the pytree, ``layer`` and ``loss`` are its structure."""

    layer: str
    loss: FeatureLoss
    weight: Array


@partial(jax.tree_util.register_dataclass, data_fields=["weight"], meta_fields=["name", "loss"])
@dataclasses.dataclass(frozen=True)
class PictureTerm:
    """A regularizer, under the name that it has in tables and logs."""

    name: str
    loss: Regularizer
    weight: Array


@partial(jax.tree_util.register_dataclass, data_fields=["content", "style", "regularizers"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Objective:
    """A sum of weighted losses: a pytree whose leaves are the weights.

    Changing a weight therefore never compiles again, and `jax.vmap` over weights works. Build one with
    `make_objective`, change one with `dataclasses.replace` or `jax.tree.map`.

    Attributes:
        content: Terms whose targets are fitted to the content picture.
        style: Terms whose targets are fitted to the style picture.
        regularizers: Terms on the picture itself.
    """

    content: tuple[FeatureTerm, ...] = ()
    style: tuple[FeatureTerm, ...] = ()
    regularizers: tuple[PictureTerm, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer that is needed, each once."""
        return tuple(dict.fromkeys(term.layer for term in self.content + self.style))


@partial(jax.tree_util.register_dataclass, data_fields=["content", "style"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Targets:
    """What `fit_targets` computed: an array for each content term and each style term, in their order."""

    content: tuple[Array, ...] = ()
    style: tuple[Array, ...] = ()


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
) -> Objective:
    """Build an `Objective` with one content loss and one style loss on several layers.

    The weight of a term is ``content_weight * content_layer_weights[i]``; layer weights are 1 unless given.

    Args:
        content_layers: Layers for the content loss.
        style_layers: Layers for the style loss.
        content_weight: Factor of all content terms.
        style_weight: Factor of all style terms.
        content_layer_weights: One factor for each content layer.
        style_layer_weights: One factor for each style layer.
        content_loss: See `jnst.losses`.
        style_loss: See `jnst.losses`.
        regularizers: ``{name: (regularizer, weight)}``.

    Raises:
        JnstError: A layer twice, not as many weights as layers, or a weight that is negative, not finite or above
            1e20.
    """
    content = _feature_terms("content", content_layers, content_loss, content_weight, content_layer_weights)
    style = _feature_terms("style", style_layers, style_loss, style_weight, style_layer_weights)
    pictures = tuple(
        PictureTerm(name, loss, _weight(f"{name} weight", weight))
        for name, (loss, weight) in (regularizers or {}).items()
    )
    return Objective(content, style, pictures)


def _feature_terms(
    kind: str, layers: Sequence[str], loss: FeatureLoss, weight: Weight, layer_weights: Sequence[Weight] | None
) -> tuple[FeatureTerm, ...]:
    factors = [1.0] * len(layers) if layer_weights is None else list(layer_weights)
    if len(factors) != len(layers):
        raise JnstError(
            f"{len(factors)} {kind} layer weights for {len(layers)} {kind} layers ({','.join(layers)}): "
            "give one weight a layer"
        )
    if len(set(layers)) < len(layers):
        raise JnstError(f"{kind} layers {','.join(layers)}: name each only once")
    common = _weight(f"{kind} weight", weight)
    return tuple(
        FeatureTerm(layer, loss, common * _weight(f"{kind} weight of {layer}", factor))
        for layer, factor in zip(layers, factors, strict=True)
    )


def _weight(name: str, value: Weight) -> Array:
    if not isinstance(value, Tracer) and not (np.min(value) >= 0 and np.max(value) <= LARGEST_WEIGHT):
        raise JnstError(f"{name} {value} is not usable: weights lie between 0 and {LARGEST_WEIGHT:g}")
    return jnp.asarray(value, jnp.float32)


def fit_targets(
    objective: Objective, params: Params, content: Image | None, style: Image | None, *, backbone: Backbone
) -> Targets:
    """Run content and style picture through the network once and keep what the losses need.

    Args:
        objective: The terms.
        params: The network's parameters.
        content: ``(..., h, w, 3)``; None if there are no content terms.
        style: ``(..., h', w', 3)``, of any size; None if there are no style terms.
        backbone: The network (static).

    Returns:
        The targets, a pytree.

    Raises:
        JnstError: A picture is missing, or a layer unknown.
        PictureError: A picture is too small for a layer.
    """
    return Targets(
        _fit("content", objective.content, params, content, backbone),
        _fit("style", objective.style, params, style, backbone),
    )


def _fit(
    kind: str, terms: tuple[FeatureTerm, ...], params: Params, image: Image | None, backbone: Backbone
) -> tuple[Array, ...]:
    if not terms:
        return ()
    if image is None:
        raise JnstError(f"the objective has {kind} terms, but there is no {kind} picture: pass one")
    layers = backbone.check_layers(dict.fromkeys(term.layer for term in terms))
    backbone.check_size(image, layers, kind)
    features = backbone.apply(params, image, layers)
    return tuple(term.loss.fit(features[term.layer]) for term in terms)


def total_loss(
    image: Image, objective: Objective, targets: Targets, params: Params, *, backbone: Backbone
) -> tuple[PerPicture, dict[str, PerPicture]]:
    """Evaluate the objective.

    Args:
        image: ``(..., h, w, 3)`` in [0, 1].
        objective: The terms and their weights.
        targets: From `fit_targets` with the same objective.
        params: The network's parameters.
        backbone: The network (static).

    Returns:
        The total, of shape ``(...)``, and its parts, each **weighted** and of shape ``(...)``, by the names
        ``content/LAYER``, ``style/LAYER`` and the regularizers' names; several losses on one layer are one part.
        The parts add up to the total.
    """
    features = backbone.apply(params, image, objective.layers) if objective.layers else {}
    parts = _weighted("content", objective.content, targets.content, features)
    parts |= _weighted("style", objective.style, targets.style, features)
    parts |= {term.name: term.weight * term.loss.loss(image) for term in objective.regularizers}
    return sum(parts.values(), jnp.zeros(image.shape[:-3], jnp.float32)), parts


def _weighted(
    kind: str, terms: tuple[FeatureTerm, ...], targets: tuple[Array, ...], features: Mapping[str, Features]
) -> dict[str, PerPicture]:
    parts: dict[str, PerPicture] = {}
    for term, target in zip(terms, targets, strict=True):
        name, value = f"{kind}/{term.layer}", term.weight * term.loss.loss(features[term.layer], target)
        parts[name] = parts[name] + value if name in parts else value
    return parts
