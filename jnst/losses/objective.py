"""The objective: a weighted sum of losses on layers and on the image itself.

total(x) = Σ wᵢ content_lossᵢ(F_lᵢ(x)) + Σ vⱼ Σ_r s_r style_lossⱼ(F_lⱼ(x), guide_r) + Σ uₖ regularizerₖ(x)

where the only region r is the whole image unless there are masks.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh

from jnst.backbones import Backbone
from jnst.backbones.segments import segments
from jnst.errors import ArgumentError
from jnst.losses import CONTENT_LOSSES, STYLE_LOSSES
from jnst.losses.base import FeatureLoss, Regularizer, is_additive
from jnst.losses.combined import Sum
from jnst.losses.content import SquaredError
from jnst.losses.gradient import unit_gradient
from jnst.losses.gram import Gram
from jnst.losses.relative import Relative
from jnst.losses.tiles import HostLoop, Request, TilePlan, backward, check_tile, forward, plan_tiles, sums_in_tiles
from jnst.solve.compilation import Jit
from jnst.solve.devices import row_sharding
from jnst.types import Array, Features, Image, Params, PerImage, RandomKey, Wrap, sum_dtype

Weight = float | Array
IMAGE = "image"
"""In place of a layer: the image itself, as a layer with 3 channels."""

LARGEST_WEIGHT = 1e20
"""Beyond it a float32 loss overflows."""


@partial(jax.tree_util.register_dataclass, data_fields=["weight"], meta_fields=["layers", "loss", "normalize_gradient"])
@dataclasses.dataclass(frozen=True)
class FeatureTerm:
    """A loss on one layer, or a joint loss on several. The weight is a leaf of the pytree, the rest its structure.

    Attributes:
        layers: One layer, or those of a joint loss; `IMAGE` stands for the image itself.
        loss: One of `jnst.losses`.
        weight: The factor of the loss.
        normalize_gradient: Whether the gradient is divided by its 1-norm (`jnst.losses.gradient`).
    """

    layers: tuple[str, ...]
    loss: FeatureLoss
    weight: Array
    normalize_gradient: bool = False

    @property
    def of_image(self) -> bool:
        """Whether the loss compares the image itself."""
        return set(self.layers) == {IMAGE}

    @property
    def name(self) -> str:
        """The layers, joined by "+"."""
        return "+".join(self.layers)

    def pick(self, by_layer: Mapping[str, Array]) -> Any:
        """The input of the loss: the array of one layer, or a tuple with one for each."""
        return tuple(by_layer[layer] for layer in self.layers) if self.loss.joint else by_layer[self.layers[0]]


@partial(jax.tree_util.register_dataclass, data_fields=["weight"], meta_fields=["name", "loss"])
@dataclasses.dataclass(frozen=True)
class ImageTerm:
    """A regularizer, under its name in tables and logs."""

    name: str
    loss: Regularizer
    weight: Array


@partial(jax.tree_util.register_dataclass, data_fields=["content", "style", "regularizers"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Objective:
    """A sum of weighted losses: a pytree whose leaves are the weights.

    Changing a weight therefore never compiles again, and `jax.vmap` over weights works. Build an objective with
    `make_objective`, add objectives with ``+``, change one with `dataclasses.replace` or `jax.tree.map`.

    Attributes:
        content: Terms whose targets are fitted to the content image.
        style: Terms whose targets are fitted to the style images.
        regularizers: Terms of the image alone.
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

    def wrapping(self, wrap: Wrap) -> "Objective":
        """The same terms for images that repeat along the axes that ``wrap``: their neighbours reach across the seam.

        Only losses with a field ``wrap`` look at neighbours; `jnst.Backbone.with_padding` does it for the network.
        """

        def wrapped(term: Any) -> Any:
            return dataclasses.replace(term, loss=_wrapping(term.loss, wrap))

        return Objective(*(tuple(map(wrapped, terms)) for terms in (self.content, self.style, self.regularizers)))


def _wrapping(loss: Any, wrap: Wrap) -> Any:
    if isinstance(loss, Relative):
        return Relative(_wrapping(loss.inner, wrap))
    if isinstance(loss, Sum):
        return Sum(tuple((_wrapping(part, wrap), weight) for part, weight in loss.parts))
    return dataclasses.replace(loss, wrap=wrap) if hasattr(loss, "wrap") else loss


@partial(jax.tree_util.register_dataclass, data_fields=["target", "guide", "weight"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Region:
    """What a style term compares one region of the image with.

    Attributes:
        target: The fitted target of the term's loss.
        guide: How much each position belongs to the region; None: the whole image.
        weight: The region's share of the term.
    """

    target: Any
    guide: Any = None
    weight: Array | float = 1.0


@partial(jax.tree_util.register_dataclass, data_fields=["content", "style"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Targets:
    """What an objective's terms compare an image with: from `jnst.fit_targets`, or `fit_content` and `fit_style`.

    Attributes:
        content: A target for each content term.
        style: The regions of each style term.
    """

    content: tuple[Any, ...] = ()
    style: tuple[tuple[Region, ...], ...] = ()

    def __add__(self, other: "Targets") -> "Targets":
        """The targets of both, for the sum of their objectives, or for content and style fitted separately."""
        return Targets(self.content + other.content, self.style + other.style)


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
    """Build an `Objective` from one content loss and one style loss on several layers each.

    The weight of a term is ``content_weight * content_layer_weights[i]``; layer weights are 1 unless given. A joint
    loss makes one term of all layers.

    Args:
        content_layers: Layers of the content loss; "image" is the image itself.
        style_layers: Layers of the style loss.
        content_weight: The factor of all content terms.
        style_weight: The factor of all style terms.
        content_layer_weights: One factor for each content layer.
        style_layer_weights: One factor for each style layer.
        content_loss: One of `jnst.losses`.
        style_loss: One of `jnst.losses`.
        regularizers: ``{name: (regularizer, weight)}``.
        normalize_gradients: Whether to divide the gradient of every content and style term by its 1-norm.

    Raises:
        ArgumentError: A layer is named twice, the number of weights is not the number of layers, a joint loss has layer
            weights, or a weight is negative, not finite or above 1e20.
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
        raise ArgumentError(f"{kind} layer weights: {type(loss).__name__} takes all layers together, leave them out")
    if loss.joint:
        return (FeatureTerm(tuple(layers), loss, common),) if layers else ()
    factors = [1.0] * len(layers) if layer_weights is None else list(layer_weights)
    if len(factors) != len(layers):
        raise ArgumentError(
            f"{len(factors)} {kind} layer weights for {len(layers)} {kind} layers ({','.join(layers)}): "
            "give one weight for each layer"
        )
    return tuple(
        FeatureTerm((layer,), loss, common * _weight(f"{kind} weight of {layer}", factor))
        for layer, factor in zip(layers, factors, strict=True)
    )


def _weight(name: str, value: Weight) -> Array:
    if isinstance(value, Tracer):
        return value.astype(sum_dtype(value))
    array = np.asarray(value)
    usable = jnp.issubdtype(array.dtype, jnp.number) and bool((array >= 0).all() and (array <= LARGEST_WEIGHT).all())
    if not usable:
        raise ArgumentError(f"{name} {value} is not usable: expected a number from 0 to {LARGEST_WEIGHT:g}")
    return jnp.asarray(value, sum_dtype(value) if isinstance(value, jax.Array) else jnp.float32)


def total_loss(
    image: Image,
    objective: Objective,
    targets: Targets,
    params: Params,
    *,
    backbone: Backbone,
    key: RandomKey | None = None,
    tile: int | None = None,
    mesh: Mesh | None = None,
) -> tuple[PerImage, dict[str, PerImage]]:
    """Evaluate an objective.

    In tiles, the value and its gradient by the image equal those of the whole image up to rounding, in memory that does
    not grow with the image but for some maps: some 220 bytes for each pixel with VGG19, the image, its gradient and
    the targets of content losses. Losses that need all positions at once are not available.

    Args:
        image: ``(..., h, w, 3)`` in [0, 1]; ``(h, w, 3)`` with ``tile``.
        objective: The terms and their weights.
        targets: From `jnst.fit_targets` with the same objective.
        params: The network's parameters.
        backbone: The network (static).
        key: For stochastic losses such as `jnst.losses.SlicedWasserstein`; without one they draw the same every time.
        tile: The side of square tiles in pixels, rounded up to a multiple of 32: half of it in shallow layers, twice as
            much in deep ones, up to 512. None: the image is computed as a whole.
        mesh: Devices among which the tiles are divided; None: one.

    Returns:
        The total, ``(...)``, and its parts, each **weighted** and ``(...)``. They are named ``content/LAYER``,
        ``style/LAYER`` (``style/LAYER/REGION`` with masks, regions counted from 1) and after the regularizers; several
        terms of one name are one part. The parts add up to the total.

    Raises:
        ArgumentError: With ``tile``: a loss, network or padding that cannot be computed in tiles, normalised gradients,
            or several images at once.
    """
    if tile is None or not objective.layers:
        features = features_of(image, objective.layers, params, backbone)
        return _total(image, objective, targets, key, partial(_value, features=features))
    plan, requests = _in_tiles(image, objective, targets, backbone, tile)
    sums = sums_in_tiles(image, requests, params, plan=plan, mesh=mesh)
    constants, positions = _constants(objective, targets), _positions(image, objective, backbone)
    return _total_from_sums(sums, image, objective, constants, positions, key)


Evaluate = Callable[[FeatureTerm, Region, RandomKey | None], PerImage]
"""The weighted value of a term on a region."""


def _total(
    image: Image, objective: Objective, targets: Targets, key: RandomKey | None, evaluate: Evaluate
) -> tuple[PerImage, dict[str, PerImage]]:
    """The sum of all terms, and its parts by name."""
    parts: dict[str, PerImage] = {}
    for index, (name, term, region) in enumerate(_terms(objective, targets)):
        drawn = None if key is None else jax.random.fold_in(key, index)
        value = evaluate(term, region, drawn)
        parts[name] = parts[name] + value if name in parts else value
    for term in objective.regularizers:
        value = term.weight * term.loss.loss(image)
        parts[term.name] = parts[term.name] + value if term.name in parts else value
    return sum(parts.values(), jnp.zeros(image.shape[:-3], jnp.float32)), parts


def _terms(objective: Objective, targets: Targets) -> Iterator[tuple[str, FeatureTerm, Region]]:
    for term, target in zip(objective.content, targets.content, strict=True):
        yield f"content/{term.name}", term, Region(target)
    for term, regions in zip(objective.style, targets.style, strict=True):
        for number, region in enumerate(regions, 1):
            yield f"style/{term.name}" + (f"/{number}" if region.guide is not None else ""), term, region


def _value(term: FeatureTerm, region: Region, key: RandomKey | None, *, features: Mapping[str, Features]) -> PerImage:
    weight = term.weight * region.weight
    seen = term.pick(features)
    if term.normalize_gradient:
        seen = jax.tree.map(lambda layer: unit_gradient(layer, weight), seen)
    return weight * term.loss.loss(seen, region.target, region.guide, key)


def _in_tiles(
    image: Image, objective: Objective, targets: Targets, backbone: Backbone, tile: int
) -> tuple[TilePlan, list[Request]]:
    """How an image is divided, and the sums that the terms on the network's layers need."""
    tile = check_tile(tile)
    check_tiles(objective, backbone, tile)
    check_single(image)
    if objective.layers:
        backbone.check_size(image, objective.layers)
    requests = [
        Request(term.layers[0], term.loss, _only(region.target, maps=True), region.guide)
        for _, term, region in _terms(objective, targets)
        if not term.of_image
    ]
    return plan_tiles(backbone, objective.layers, (image.shape[0], image.shape[1]), tile), requests


def check_single(image: Image) -> None:
    """Check that an image to be computed in tiles is one image.

    Raises:
        ArgumentError: It has other axes than ``(h, w, 3)``.
    """
    if image.ndim != 3:
        raise ArgumentError(f"an image of shape {image.shape} in tiles: expected (h, w, 3), one image at a time")


def check_tiles(objective: Objective, backbone: Backbone, tile: int) -> None:
    """Check that an objective can be computed in tiles of a side. Terms on the image itself always can.

    Raises:
        ArgumentError: A loss needs all positions at once, gradients are normalised, or the network has no tiles.
    """
    kinds = [(term, CONTENT_LOSSES) for term in objective.content] + [(term, STYLE_LOSSES) for term in objective.style]
    for term, kind in kinds:
        if term.of_image:
            continue
        if not is_additive(term.loss):
            known = [name for name, make in kind.items() if is_additive(make)]
            raise ArgumentError(
                f"{_name_of(term.loss)} on {term.name} needs all positions of an image at once and cannot be computed "
                f"in tiles: choose one of {', '.join(known)}, or compute the whole image at once"
            )
        if term.normalize_gradient:
            raise ArgumentError(
                f"the gradient of {term.name} is normalised, which needs all of it at once and cannot be done in "
                "tiles: leave out the normalisation of gradients, or compute the whole image at once"
            )
    segments(backbone, objective.layers, tile)


def _name_of(loss: Any) -> str:
    return _name_of(loss.inner) if hasattr(loss, "inner") else type(loss).__name__


def _positions(image: Image, objective: Objective, backbone: Backbone) -> dict[str, Array]:
    """How many positions each layer has."""
    shapes = backbone.shapes((image.shape[0], image.shape[1]), objective.layers)
    return {layer: jnp.float32(shape[0] * shape[1]) for layer, shape in shapes.items()}


def _constants(objective: Objective, targets: Targets) -> Targets:
    """The targets without the maps ``(h, w, c)`` and ``(h, w)`` of layers, with which sums have been compared."""

    def constant(term: FeatureTerm, target: Any) -> Any:
        return target if term.of_image else _only(target, maps=False)

    def without_guide(term: FeatureTerm, region: Region) -> Region:
        guide = region.guide if term.of_image or region.guide is None else True
        return Region(constant(term, region.target), guide, region.weight)

    return Targets(
        tuple(constant(term, target) for term, target in zip(objective.content, targets.content, strict=True)),
        tuple(
            tuple(without_guide(term, region) for region in regions)
            for term, regions in zip(objective.style, targets.style, strict=True)
        ),
    )


def _only(target: Any, *, maps: bool) -> Any:
    """The target's maps ``(h, w, c)``, or its other arrays; None in place of the rest."""
    return jax.tree.map(lambda leaf: leaf if (leaf.ndim == 3) == maps else None, target)


def _total_from_sums(
    sums: Sequence[Any],
    image: Image,
    objective: Objective,
    targets: Targets,
    positions: Mapping[str, Array],
    key: RandomKey | None,
) -> tuple[PerImage, dict[str, PerImage]]:
    """The total and its parts, from the sums of the terms on layers and `_constants`."""
    waiting = iter(sums)

    def evaluate(term: FeatureTerm, region: Region, key: RandomKey | None) -> PerImage:
        if term.of_image:
            return _value(term, region, key, features={IMAGE: image})
        loss: Any = term.loss
        value = loss.from_sums(next(waiting), region.target, positions[term.layers[0]])
        return term.weight * region.weight * value

    return _total(image, objective, targets, key, evaluate)


class TransferArgs(NamedTuple):
    """The arguments of a `transfer_loss`: a pytree. A plain tuple in this order will do.

    Attributes:
        objective: The terms and their weights.
        targets: From `jnst.fit_targets` with the same objective.
        params: The network's parameters.
        key: For stochastic losses; None: they draw the same at every step.
    """

    objective: Objective
    targets: Targets
    params: Params
    key: RandomKey | None = None


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class TransferLoss:
    """See `transfer_loss`."""

    backbone: Backbone
    mesh: Mesh | None = None
    tile: int | None = None

    def __call__(self, image: Image, args: Any, step: Array) -> tuple[PerImage, dict[str, PerImage]]:
        """The total and its parts. Stochastic losses depend on the key and on ``step``."""
        objective, targets, params, key = TransferArgs(*args)
        if self.mesh is not None and self.tile is None:
            image = jax.lax.with_sharding_constraint(image, row_sharding(self.mesh))
        return total_loss(
            image,
            objective,
            targets,
            params,
            backbone=self.backbone,
            key=_at_step(key, step),
            tile=self.tile,
            mesh=self.mesh,
        )

    @property
    def on_host(self) -> Callable[[Image, Any, Array], tuple[Any, Array]] | None:
        """See `jnst.solve.solver.Loss`: how tiles are computed on CPUs."""
        return None if self.tile is None or self.mesh is not None else self._value_and_gradient

    def _value_and_gradient(self, image: Image, args: Any, step: Array) -> tuple[Any, Array]:
        objective, targets, params, key = TransferArgs(*args)
        assert self.tile is not None
        plan, requests = _in_tiles(image, objective, targets, self.backbone, self.tile)
        loop = HostLoop()
        found = forward(loop, plan, image, requests, params, saves=True)
        needs_image = objective.regularizers or any(term.of_image for term in objective.content + objective.style)
        value, (by_sums, by_image) = _value_and_derivatives(
            found.sums,
            image if needs_image else jnp.zeros((1, 1, 3)),
            objective,
            _constants(objective, targets),
            _positions(image, objective, self.backbone),
            key,
            step,
        )
        gradient: Any
        gradient = backward(loop, plan, found, requests, params, by_sums) if plan.segments else 0.0 * image
        return value, jnp.asarray(gradient + by_image if needs_image else gradient)


@Jit
def _value_and_derivatives(
    sums: Any, image: Image, objective: Objective, targets: Targets, positions: Any, key: RandomKey | None, step: Array
) -> tuple[Any, tuple[Any, Array]]:
    """The total and its parts, and the gradient by the sums and by the image itself."""

    def total(sums: Any, image: Image) -> tuple[PerImage, dict[str, PerImage]]:
        return _total_from_sums(sums, image, objective, targets, positions, _at_step(key, step))

    return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(sums, image)


def _at_step(key: RandomKey | None, step: Array) -> RandomKey | None:
    return None if key is None else jax.random.fold_in(key, step)


def transfer_loss(backbone: Backbone, *, mesh: Mesh | None = None, tile: int | None = None) -> TransferLoss:
    """Return `total_loss` in the form that `jnst.solve` minimises: ``loss(image, args, step) -> (total, parts)``.

    It is static and hashable, and equal for equal backbones. ``args`` are `TransferArgs`, or a plain tuple
    ``(objective, targets, params)`` or ``(objective, targets, params, key)``.

    Args:
        backbone: The network.
        mesh: Devices that share one large image, each some of its rows, or some of its tiles; None: one device.
        tile: See `total_loss`. On CPUs, runs that are not traced loop over tiles on the host, through programs that
            serve images of any size.

    Raises:
        ArgumentError: ``tile`` is no side of a tile.
    """
    return TransferLoss(backbone, mesh, None if tile is None else check_tile(tile))
