"""Images at every size of a run, and their targets: once for each content and each style, not for every pair."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import jax

from jnst.images import size_of
from jnst.losses.objective import Objective, Targets
from jnst.losses.targets import fit_targets
from jnst.solve.compilation import DeviceJit
from jnst.transfer.inputs import Inputs, resize_images
from jnst.transfer.plan import Job, Plan, Scale
from jnst.types import Image, Params

_fit_targets = DeviceJit(fit_targets, static_argnames=("backbone", "shape"))
"""One program a size."""


def targets_at(plan: Plan, scale: Scale, images: Inputs, params: Params) -> Targets:
    """The targets of ``scale.objective``, given the images at that size."""
    content, styles, weights, masks, style_masks = images
    return _fit_targets(
        scale.objective,
        params,
        content,
        styles,
        backbone=plan.backbone,
        style_weights=weights,
        masks=masks,
        style_masks=style_masks,
        shape=scale.shape,
    )


def at_scale(plan: Plan, index: int, images: Inputs) -> Inputs:
    """Content and styles at the size that they have beside one size of the image."""
    sides = style_sides(plan, index, images.styles)
    return resize_images(images, plan.scales[index].shape, sides, plan.smallest_side, plan.settings.resample)


def style_sides(plan: Plan, index: int, styles: tuple[Image, ...]) -> tuple[float, ...]:
    """The longer sides that the styles have beside one size of the image, in pixels."""
    relative = max(plan.scales[index].shape) / max(plan.scales[-1].shape)
    return tuple((1.0 if plan.settings.fixed_style else relative) * _style_side(style, plan) for style in styles)


def _style_side(style: Image, plan: Plan) -> float:
    """A style's longer side beside the full-sized image: its own, or the size asked for if that is smaller."""
    own, scale = max(size_of(style)), plan.settings.style_scale
    return own * scale if plan.size is None else min(own * max(1.0, scale), plan.size * scale)


class TargetStore:
    """The targets of the images that a batch or a catalogue is made of, and the images at the size they belong to.

    An image is known by its array: hand over the same one to have its targets again. Those not used for longest
    leave when all take more than ``limit`` bytes.

    Args:
        limit: In bytes; what was asked for last stays in any case.
        place: Puts images where they are computed on.

    Attributes:
        contents: How often targets of a content image were computed, at any size.
        styles: The same of a style.
    """

    def __init__(self, limit: int = 2**30, place: Callable[[Any], Any] = lambda tree: tree) -> None:
        self.contents = 0
        self.styles = 0
        self._limit, self._place = limit, place
        self._kept: OrderedDict[Hashable, tuple[Any, Any]] = OrderedDict()

    def at(self, job: Job, index: int, params: Params) -> tuple[Inputs, Targets]:
        """A job's images at one size of the pyramid, and their targets."""
        content, of_content = self.content(job, index, params)
        styles, of_styles = self.style(job, index, params)
        images = job.images._replace(content=content, styles=styles)
        return images, Targets(of_content.content, of_styles.style)

    def content(self, job: Job, index: int, params: Params) -> tuple[Image | None, Targets]:
        """The content image and the targets of all content terms at one size of the pyramid."""
        plan, scale, image = job.plan, job.plan.scales[index], job.images.content
        terms = Objective(content=scale.objective.content)
        if image is None:
            return None, Targets()

        def compute() -> tuple[Image | None, Targets]:
            self.contents += bool(terms.content)
            small = self._place(at_scale(plan, index, Inputs(image)))
            return small.content, targets_at(plan, scale._replace(objective=terms), small, params)

        key = (id(image), id(params), scale.shape, plan.settings.resample, plan.backbone, jax.tree.structure(terms))
        return self._get(key, (image, params), compute)

    def style(self, job: Job, index: int, params: Params) -> tuple[tuple[Image, ...], Targets]:
        """The styles and the targets of all style terms at one size of the pyramid."""
        plan, scale, given = job.plan, job.plan.scales[index], job.images._replace(content=None)
        terms = Objective(style=scale.objective.style)
        if not given.styles:
            return (), Targets()

        def compute() -> tuple[tuple[Image, ...], Targets]:
            self.styles += bool(terms.style)
            small = self._place(at_scale(plan, index, given))
            return small.styles, targets_at(plan, scale._replace(objective=terms), small, params)

        masks = jax.tree.map(id, (given.masks, given.style_masks))
        key = (
            *(id(style) for style in given.styles),
            *style_sides(plan, index, given.styles),
            None if given.style_weights is None else tuple(given.style_weights.tolist()),
            *(masks, scale.shape if given.masks else None),
            *(id(params), plan.settings.resample, plan.smallest_side, plan.backbone, jax.tree.structure(terms)),
        )
        return self._get(key, (given, params), compute)

    def _get(self, key: Hashable, alive: Any, compute: Callable[[], Any]) -> Any:
        """A kept value, or a new one. ``alive`` holds on to what the key's identities are of."""
        if key not in self._kept:
            self._kept[key] = (alive, compute())
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and self._bytes() > self._limit:
            self._kept.popitem(last=False)
        return self._kept[key][1]

    def _bytes(self) -> int:
        return sum(leaf.nbytes for _, value in self._kept.values() for leaf in jax.tree.leaves(value))
