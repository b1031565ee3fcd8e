"""What a run will do, settled before anything is computed: its sizes, and what is minimised at each, and how."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jnst.backbones import Backbone
from jnst.errors import ArgumentError
from jnst.images import fit_shape
from jnst.losses.objective import Objective, total_loss
from jnst.presets import Preset
from jnst.solve import devices as parallel
from jnst.solve import run as optimize
from jnst.solve.optimizers import OPTIMIZERS, Optimizer, Settings, build
from jnst.transfer.inputs import INITS, Inputs
from jnst.types import Array, Image, RandomKey


@dataclasses.dataclass(frozen=True)
class TransferLoss:
    """`total_loss` as a function of the image, hashable: equal backbones share one compiled program.

    With ``mesh`` the image's rows are divided among devices, which exchange the borders that convolutions need.
    """

    backbone: Backbone
    mesh: Mesh | None = None

    def __call__(self, image: Image, args: Any, step: Array) -> tuple[Array, dict[str, Array]]:
        """``args`` is (objective, targets, params, key); what is drawn at random depends on the key and the step."""
        objective, targets, params, key = args
        if self.mesh is not None:
            image = jax.lax.with_sharding_constraint(image, parallel.rows(self.mesh))
        return total_loss(image, objective, targets, params, backbone=self.backbone, key=jax.random.fold_in(key, step))


class Scale(NamedTuple):
    """One size of a run: the image's height and width, its steps, what is minimised there, and how.

    ``optimizer`` is what ``method`` was built from.
    """

    shape: tuple[int, int]
    num_steps: int
    objective: Objective
    method: optimize.Method
    optimizer: Optimizer


class Plan(NamedTuple):
    """What a run will do."""

    settings: Preset
    backbone: Backbone
    scales: tuple[Scale, ...]
    size: int | None
    smallest_side: int


class Job(NamedTuple):
    """One image to make: everything but the network's parameters.

    Attributes:
        plan: Its sizes, and what is minimised at each.
        images: What it is given, checked.
        key: For noise, and losses that draw at random.
        init: The image it starts from, of any size; None: as the settings say.
        finish: What is done to the result, ``(h, w, 3)`` in [0, 1], at the end.
    """

    plan: Plan
    images: Inputs
    key: RandomKey
    init: Image | None = None
    finish: Callable[[Image], Image] = lambda image: image


def make_plan(
    settings: Preset,
    backbone: Backbone,
    shape: tuple[int, int],
    *,
    size: int | None = None,
    objective: Objective | None = None,
    optimizer: Optimizer | None = None,
) -> Plan:
    """Settle a run's sizes, objectives and methods.

    Args:
        settings: A preset with all changes put in.
        backbone: The network, as loaded.
        shape: Height and width of the image given; the result has these proportions.
        size: The longer side of the result; None: that of ``shape``.
        objective: In place of the preset's.
        optimizer: In place of the preset's.

    Raises:
        ArgumentError: Settings that make no sense.
        WeightsError: A layer beyond the weights.
    """
    _check(settings)
    _check_optimizer(settings.optimizer if optimizer is None else optimizer)
    if size is not None and not (isinstance(size, int | float | np.number) and 1 <= size < np.inf):
        raise ArgumentError(f"size {size}: expected the longer side in pixels, at least 1")
    backbone = settings.network(backbone)
    objective = settings.objective(backbone) if objective is None else objective
    if not (objective.content or objective.style or objective.regularizers):
        raise ArgumentError("nothing to minimise, for there are neither layers nor regularizers: name at least one layer")
    least = backbone.smallest_side(objective.layers) if objective.layers else 1
    shapes = _shapes(settings, shape, size)
    shapes = (*(small for small in shapes[:-1] if min(small) >= least), shapes[-1])
    scales = []
    for index, small in enumerate(shapes):
        chosen = _optimizer(settings, optimizer, last=index == len(shapes) - 1)
        scales.append(
            Scale(
                small,
                settings.num_steps[min(index, len(settings.num_steps) - 1)],
                _with_content_factor(objective, settings.content_weight_per_size**index),
                _method(settings, backbone, chosen),
                chosen,
            )
        )
    return Plan(settings, backbone, tuple(scales), size, least)


def divided(plan: Plan, mesh: Mesh) -> Plan:
    """The same plan with every image's rows divided among the devices of a mesh."""
    loss = TransferLoss(plan.backbone, parallel.check_mesh(mesh))
    scales = (scale._replace(method=dataclasses.replace(scale.method, loss=loss)) for scale in plan.scales)
    return plan._replace(scales=tuple(scales))


def _check(settings: Preset) -> None:
    if settings.init not in INITS:
        raise ArgumentError(f"init {settings.init!r} is unknown: choose one of {', '.join(INITS)}, or pass an image")
    steps = settings.num_steps
    if not steps or not all(isinstance(count, int | np.integer) and count >= 0 for count in steps):
        raise ArgumentError(f"num_steps {steps}: expected whole numbers of at least 0")
    if not 0 <= settings.average < 1:
        raise ArgumentError(f"average {settings.average}: expected a decay of at least 0 and below 1, for example 0.99")
    if not 0 < settings.style_scale < np.inf:
        raise ArgumentError(f"style_scale {settings.style_scale}: expected a positive number, for example 1")
    for name in ("content_layers", "style_layers", "content_layer_weights", "style_layer_weights"):
        value = getattr(settings, name)
        if not (value is None or isinstance(value, list | tuple)):
            raise ArgumentError(f"{name} {value!r}: expected a tuple, such as ({value!r},)")


def _shapes(settings: Preset, shape: tuple[int, int], size: int | None) -> tuple[tuple[int, int], ...]:
    full = shape if size is None else fit_shape(shape, size)
    return (full,) if settings.pyramid is None else (*settings.pyramid.shapes(full, proportions=shape)[:-1], full)


def _with_content_factor(objective: Objective, factor: float) -> Objective:
    content = tuple(dataclasses.replace(term, weight=factor * term.weight) for term in objective.content)
    return dataclasses.replace(objective, content=content)


def _optimizer(settings: Preset, given: Optimizer | None, last: bool) -> Optimizer:
    if given is not None:
        return given
    if last and settings.last_learning_rate is not None:
        return dataclasses.replace(settings.optimizer, learning_rate=settings.last_learning_rate)
    return settings.optimizer


def _check_optimizer(optimizer: Optimizer) -> None:
    if isinstance(optimizer, Settings) or hasattr(optimizer, "update"):
        return
    known = f" (jnst.solve.optimizers.OPTIMIZERS[{optimizer!r}]())" if optimizer in list(OPTIMIZERS) else ""
    raise ArgumentError(f"optimizer {optimizer!r}: expected jnst.LBFGS(), jnst.Adam()..., or one of Optax's{known}")


def _method(settings: Preset, backbone: Backbone, optimizer: Optimizer) -> optimize.Method:
    return optimize.Method(
        loss=TransferLoss(backbone),
        optimizer=build(optimizer, settings.unit) if isinstance(optimizer, Settings) else optimizer,
        bounds=(0.0, 1.0) if settings.clamp else None,
        average=settings.average,
        keep_best=settings.keep_best,
    )
