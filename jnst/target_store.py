"""Targets computed once: for every content picture and every style, not for every pair of them."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import jax

from jnst.coarse_to_fine import at_scale, style_sides, targets_at
from jnst.objective import Objective, Targets
from jnst.pictures import Pictures
from jnst.plan import Job
from jnst.types import Image, Params


class TargetStore:
    """The targets of the pictures that a batch or a catalogue is made of, and the pictures at the size they belong to.

    A picture is known by its array: hand over the same one to have its targets again. Those not used for longest
    leave when all take more than ``limit`` bytes.

    Attributes:
        contents: How often targets of a content picture were computed, at any size.
        styles: The same of a style.
    """

    def __init__(self, limit: int = 2**30) -> None:
        self.contents = 0
        self.styles = 0
        self._limit = limit
        self._kept: OrderedDict[Hashable, tuple[Any, Any]] = OrderedDict()

    def content(self, job: Job, index: int, params: Params) -> tuple[Image | None, Targets]:
        """The content picture and the targets of all content terms at one size of the pyramid."""
        plan, scale, image = job.plan, job.plan.scales[index], job.pictures.content
        terms = Objective(content=scale.objective.content)
        if image is None:
            return None, Targets()

        def compute() -> tuple[Image | None, Targets]:
            self.contents += bool(terms.content)
            small = at_scale(plan, index, Pictures(image))
            return small.content, targets_at(plan, scale._replace(objective=terms), small, params)

        key = (id(image), id(params), scale.shape, plan.settings.resample, plan.backbone, jax.tree.structure(terms))
        return self._get(key, (image, params), compute)

    def style(self, job: Job, index: int, params: Params) -> tuple[tuple[Image, ...], Targets]:
        """The styles and the targets of all style terms at one size of the pyramid."""
        plan, scale, given = job.plan, job.plan.scales[index], job.pictures._replace(content=None)
        terms = Objective(style=scale.objective.style)
        if not given.styles:
            return (), Targets()

        def compute() -> tuple[tuple[Image, ...], Targets]:
            self.styles += bool(terms.style)
            small = at_scale(plan, index, given)
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
