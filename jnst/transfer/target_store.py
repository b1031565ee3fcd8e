"""Inputs at every size of a run and their targets, computed once for each content and each style."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from jnst.backbones import Backbone
from jnst.backbones.kernels.algorithms import for_single_use
from jnst.losses.objective import Objective, Targets
from jnst.losses.targets import find_floors, fit_content, fit_style
from jnst.solve.compilation import Jit
from jnst.transfer.inputs import Inputs, resize_inputs
from jnst.transfer.plan import Job, Plan, style_sides
from jnst.types import Array, Image, Params

_find_floors = Jit(find_floors, static_argnames="backbone")
_fit_content = Jit(fit_content, static_argnames="backbone")


@partial(Jit, static_argnames=("backbone", "image_backbone", "shapes"))
def _fit_styles(
    given: Sequence[Inputs],
    terms: Objective,
    params: Params,
    floors: tuple[Array | None, ...],
    *,
    backbone: Backbone,
    image_backbone: Backbone,
    shapes: Sequence[tuple[int, int] | None],
) -> list[Targets]:
    """The styles' targets at several sizes of the image, in one program."""
    networks = {"backbone": backbone, "image_backbone": image_backbone}
    fit = partial(_fit_style, terms=terms, params=params, floors=floors, **networks)
    return [fit(inputs, shape=shape) for inputs, shape in zip(given, shapes, strict=True)]


def _fit_style(
    inputs: Inputs,
    terms: Objective,
    params: Params,
    floors: tuple[Array | None, ...],
    *,
    backbone: Backbone,
    image_backbone: Backbone,
    shape: tuple[int, int] | None,
    tile: int | None = None,
) -> Targets:
    """The styles' targets at one size of the image."""
    return fit_style(
        inputs.styles,
        terms,
        params,
        backbone=backbone,
        style_weights=inputs.style_weights,
        masks=inputs.masks,
        style_masks=inputs.style_masks,
        shape=shape,
        floors=floors,
        tile=tile,
        image_backbone=image_backbone,
    )


StyleSize: TypeAlias = tuple[tuple[float, ...], tuple[int, int] | None, int | None]
"""The styles' longer sides in pixels, the height and width of the image that masks divide, and the side of tiles."""


def _style_size(job: Job, index: int) -> StyleSize:
    shape = None if job.inputs.masks is None else job.plan.scales[index].shape
    return style_sides(job.plan, index, job.inputs.styles), shape, job.plan.scales[index].tile


def inputs_at(plan: Plan, index: int, inputs: Inputs) -> Inputs:
    """The inputs at the sizes that they have beside one size of the image."""
    sides, settings = style_sides(plan, index, inputs.styles), plan.settings
    method, wrap = settings.schedule.resample, settings.wrap
    return resize_inputs(inputs, plan.scales[index].shape, sides, plan.smallest_side, method, wrap)


def target_shapes(job: Job, index: int, params: Params) -> Targets:
    """The shapes and dtypes of the targets at one size, without computing them."""
    plan, scale = job.plan, job.plan.scales[index]

    def fit(inputs: Inputs, params: Params) -> Targets:
        content, styles, weights, masks, style_masks = inputs_at(plan, index, inputs)
        of_content = fit_content(content, scale.objective, params, backbone=plan.backbone)
        return of_content + fit_style(
            styles,
            scale.objective,
            params,
            backbone=plan.style_backbone,
            style_weights=weights,
            masks=masks,
            style_masks=style_masks,
            shape=scale.shape,
            image_backbone=plan.backbone,
        )

    return jax.eval_shape(fit, job.inputs, params)


class TargetStore:
    """Keeps resized inputs and targets, for all jobs of a batch or a catalogue.

    An image is known by its array: pass the same array again to have its targets again. The least recently used are
    evicted when all together take more than ``limit`` bytes.

    Args:
        limit: In bytes; what was asked for last is kept in any case.
        place: Puts inputs onto the devices that compute with them.

    Attributes:
        contents: How often targets of a content image were computed, at any size.
        styles: The same for styles.
    """

    def __init__(self, limit: int = 2**30, place: Callable[[Any], Any] = lambda tree: tree) -> None:
        self.contents = 0
        self.styles = 0
        self._limit, self._place = limit, place
        self._kept: OrderedDict[Hashable, tuple[Any, Any]] = OrderedDict()
        self._floors: dict[Hashable, tuple[Params, tuple[Array | None, ...]]] = {}

    def at(self, job: Job, index: int, params: Params) -> tuple[Inputs, Targets]:
        """A job's inputs at one size, and their targets."""
        content, of_content = self._content(job, index, params)
        styles, of_styles = self._styles(job, index, params)
        return job.inputs._replace(content=content, styles=styles), of_content + of_styles

    def _content(self, job: Job, index: int, params: Params) -> tuple[Image | None, Targets]:
        plan, scale, image = job.plan, job.plan.scales[index], job.inputs.content
        terms = Objective(content=scale.objective.content)
        if image is None:
            return None, Targets()

        def compute() -> tuple[Image | None, Targets]:
            self.contents += bool(terms.content)
            content = self._place(inputs_at(plan, index, Inputs(image))).content
            # Where gradients are normalised, the content's own loss must be exactly 0, not a rounding error.
            exact = plan.settings.terms.normalize_gradients
            own = params if exact else for_single_use(params)
            floors = self._floors_of(scale.objective, params, plan)[: len(terms.content)]
            if scale.tile is not None:
                fitted = fit_content(content, terms, params, backbone=plan.backbone, floors=floors, tile=scale.tile)
                return content, fitted
            return content, _fit_content(content, terms, own, backbone=plan.backbone, floors=floors)

        resample = plan.settings.schedule.resample, plan.settings.wrap
        key = (id(image), id(params), scale.shape, scale.tile, resample, plan.backbone, jax.tree.structure(terms))
        return self._get(key, (image, params), compute)

    def _styles(self, job: Job, index: int, params: Params) -> tuple[tuple[Image, ...], Targets]:
        """The styles and their targets at one size; those for all later sizes are computed in the same program."""
        plan, given, objective = job.plan, job.inputs._replace(content=None), job.plan.scales[0].objective
        terms = Objective(style=objective.style)
        if not given.styles:
            return (), Targets()
        common = (
            *(id(style) for style in given.styles),
            None if given.style_weights is None else tuple(given.style_weights.tolist()),
            jax.tree.map(id, (given.masks, given.style_masks)),
            *(id(params), plan.settings.schedule.resample, plan.smallest_side),
            *(plan.style_backbone, plan.backbone),
            jax.tree.structure(terms),
        )
        floors = self._floors_of(objective, params, plan)[len(objective.content) :]

        networks = {"backbone": plan.style_backbone, "image_backbone": plan.backbone}

        def compute_in_tiles(shape: tuple[int, int] | None, tile: int) -> tuple[tuple[Image, ...], Targets]:
            self.styles += bool(terms.style)
            inputs = self._place(inputs_at(plan, index, given))
            fitted = _fit_style(inputs, terms, params, floors, **networks, shape=shape, tile=tile)
            return inputs.styles, jax.tree.map(jnp.asarray, fitted)

        def compute() -> tuple[tuple[Image, ...], Targets]:
            missing = {size: later for size, later in together.items() if (common, size) not in self._kept}
            self.styles += len(missing) * bool(terms.style)
            inputs = [self._place(inputs_at(plan, later, given)) for later in missing.values()]
            targets = _fit_styles(
                inputs,
                terms,
                for_single_use(params),
                floors,
                **networks,
                shapes=tuple(shape for _, shape, _ in missing),
            )
            own, *others = ((at_size.styles, fitted) for at_size, fitted in zip(inputs, targets, strict=True))
            for size, value in zip(list(missing)[1:], others, strict=True):
                self._kept[common, size] = (given, params), value
            return own

        size = _style_size(job, index)
        together = {
            _style_size(job, later): later
            for later in range(index, len(plan.scales))
            if plan.scales[later].tile is None
        }
        _, shape, tile = size
        make = compute if tile is None else partial(compute_in_tiles, shape, tile)
        return self._get((common, size), (given, params), make)

    def _floors_of(self, objective: Objective, params: Params, plan: Plan) -> tuple[Array | None, ...]:
        """The least scales of the content terms, then of the style terms: the same at every size and for all images."""
        terms = objective.content + objective.style
        key = (id(params), plan.style_backbone, jax.tree.structure(terms))
        if key not in self._floors:
            self._floors[key] = params, _find_floors(terms, for_single_use(params), backbone=plan.style_backbone)
        return self._floors[key][1]

    def _get(self, key: Hashable, alive: Any, compute: Callable[[], Any]) -> Any:
        """A kept value, or a new one. ``alive`` keeps the objects alive whose identities are part of the key."""
        if key not in self._kept:
            self._kept[key] = (alive, compute())
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and self._bytes() > self._limit:
            self._kept.popitem(last=False)
        return self._kept[key][1]

    def _bytes(self) -> int:
        return sum(leaf.nbytes for _, value in self._kept.values() for leaf in jax.tree.leaves(value))
