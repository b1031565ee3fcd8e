"""`stylize`: from two pictures, one with the content of the first in the style of the second."""

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jnst import optimize
from jnst.backbones import Backbone
from jnst.errors import JnstError, NumericsError
from jnst.image import check_picture, fit_shape, noise, resize
from jnst.objective import Objective, fit_targets, total_loss
from jnst.optimizers import LBFGS, Adam, build
from jnst.presets import Preset, preset
from jnst.types import Array, Image, Params, RandomKey
from jnst.weights.load import load_backbone

Optimizer = optax.GradientTransformation | Adam | LBFGS


@partial(jax.tree_util.register_dataclass, data_fields=["scale", "run"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class RunState:
    """Where a run stands: the position in the pyramid (0 for the coarsest size) and the state there."""

    scale: Array
    run: optimize.State


@dataclasses.dataclass(frozen=True)
class Solution:
    """What `stylize` returns.

    Attributes:
        image: The picture, ``(h, w, 3)`` float32 in [0, 1].
        losses: The total at every step of this call, ``(n,)``; step 1 is the start picture's.
        parts: Its weighted parts by name (``content/LAYER``, ``style/LAYER``, ``tv``), each ``(n,)``.
        state: Hand it to `stylize` to go on.
    """

    image: Image
    losses: np.ndarray
    parts: dict[str, np.ndarray]
    state: RunState


@dataclasses.dataclass(frozen=True)
class TransferLoss:
    """`total_loss` as a function of the picture, hashable: equal backbones share one compiled program."""

    backbone: Backbone

    def __call__(self, image: Image, args: Any) -> tuple[Array, dict[str, Array]]:
        """``args`` is (objective, targets, params)."""
        return total_loss(image, *args, backbone=self.backbone)


_fit_targets = jax.jit(fit_targets, static_argnames="backbone")


def _size(image: Image) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


INITS: dict[str, Callable[[RandomKey, Image, Image, float], Image]] = {
    "content": lambda key, content, style, std: content,
    "style": lambda key, content, style, std: resize(style, _size(content)),
    "noise": lambda key, content, style, std: noise(key, _size(content), std),
}
"""Starting pictures: functions of key, content, style and the noise's standard deviation."""


def stylize(
    content: Image,
    style: Image,
    params: Params | None = None,
    *,
    backbone: Backbone | None = None,
    preset: str | Preset = "jnst",
    objective: Objective | None = None,
    optimizer: Optimizer | None = None,
    num_steps: int | tuple[int, ...] | None = None,
    init: str | Image | None = None,
    key: RandomKey | None = None,
    state: RunState | None = None,
    chunk: int | None = None,
    callback: optimize.Callback | None = None,
) -> Solution:
    """Transfer the style of one picture to the content of another by optimisation (Gatys et al., CVPR 2016).

    Args:
        content: ``(h, w, 3)`` sRGB in [0, 1]; the result has its size.
        style: ``(h', w', 3)``, any size; how large its strokes become depends on its size.
        params: The network's parameters; None: the embedded network's.
        backbone: The network (static); None: the embedded one.
        preset: The settings; ``objective``, ``optimizer``, ``num_steps`` and ``init`` go before it when given.
        objective: What is minimised.
        optimizer: Any Optax transformation (for pictures in [0, 1]), or `Adam` or `LBFGS` in the preset's units.
        num_steps: Steps at each size of the pyramid; the last number holds for all further sizes.
        init: ``"content"``, ``"style"``, ``"noise"`` or a picture ``(h, w, 3)``.
        key: For noise; `jax.random.key(0)` if None.
        state: `Solution.state` of an earlier call with the same arguments: the run goes on from there to ``num_steps``.
        chunk: Steps in one compiled program; None chooses by device (1 on CPUs).
        callback: Called with an `optimize.Report` after every chunk; returning True ends the run.

    Raises:
        PictureError: A picture that is not ``(h, w, 3)`` floats in [0, 1], or too small for a layer.
        JnstError: An unknown name, or numbers that make no sense.
        WeightsError: A layer beyond the weights.
        NumericsError: The loss stopped being finite; its ``result`` is the `Solution` with the last finite picture.
    """
    content, style = check_picture(content, "content"), check_picture(style, "style")
    backbone, params = _network(backbone, params)
    plan = _plan(content, backbone, preset, objective, optimizer, num_steps, init)
    start = _Start(init, jax.random.key(0) if key is None else key, state)
    return _run(plan, content, style, params, start, chunk, callback)


def _network(backbone: Backbone | None, params: Params | None) -> tuple[Backbone, Params]:
    if backbone is None and params is None:
        return load_backbone()
    if backbone is None or params is None:
        raise JnstError(
            "`params` and `backbone` belong together: pass both, as jnst.load_backbone returns them, or neither"
        )
    return backbone, params


class _Plan(NamedTuple):
    """What a run will do: settled before anything is computed."""

    settings: Preset
    backbone: Backbone
    objective: Objective
    method: optimize.Method
    shapes: tuple[tuple[int, int], ...]
    steps: tuple[int, ...]
    smallest_side: int


class _Start(NamedTuple):
    """Where a run begins: at a starting picture, or at an earlier state."""

    init: str | Image | None
    key: RandomKey
    state: RunState | None


def _plan(
    content: Image,
    backbone: Backbone,
    name: str | Preset,
    objective: Objective | None,
    optimizer: Optimizer | None,
    num_steps: int | tuple[int, ...] | None,
    init: str | Image | None,
) -> _Plan:
    settings = preset(name)
    if num_steps is not None:
        settings = preset(settings, num_steps=(num_steps,) if isinstance(num_steps, int) else tuple(num_steps))
    if isinstance(init, str):
        settings = preset(settings, init=init)
    if settings.init not in INITS:
        raise JnstError(f"init {settings.init!r} is unknown: choose one of {', '.join(INITS)}, or pass a picture")
    if not settings.num_steps or min(settings.num_steps) < 0:
        raise JnstError(f"num_steps {settings.num_steps}: expected numbers of at least 0")
    if not 0 <= settings.average < 1:
        raise JnstError(f"average {settings.average}: expected a decay of at least 0 and below 1, for example 0.99")
    if settings.pooling is not None:
        backbone = backbone.with_pooling(settings.pooling)
    if optimizer is None or isinstance(optimizer, Adam | LBFGS):
        optimizer = build(optimizer or settings.optimizer, settings.unit)
    method = optimize.Method(
        loss=TransferLoss(backbone),
        optimizer=optimizer,
        bounds=(0.0, 1.0) if settings.clamp else None,
        average=settings.average,
        keep_best=settings.keep_best,
    )
    objective = settings.objective(backbone) if objective is None else objective
    least = backbone.smallest_side(objective.layers) if objective.layers else 1
    shapes = settings.pyramid.shapes(_size(content)) if settings.pyramid else (_size(content),)
    shapes = (*(shape for shape in shapes[:-1] if min(shape) >= least), shapes[-1])
    steps = tuple(settings.num_steps[min(scale, len(settings.num_steps) - 1)] for scale in range(len(shapes)))
    return _Plan(settings, backbone, objective, method, shapes, steps, least)


def _run(
    plan: _Plan,
    content: Image,
    style: Image,
    params: Params,
    start: _Start,
    chunk: int | None,
    callback: optimize.Callback | None,
) -> Solution:
    begun = time.perf_counter()
    scale, current = (0, None) if start.state is None else _position(start.state, plan)
    records: list[optimize.Result] = []
    for scale in range(scale, len(plan.shapes)):  # noqa: B020 - goes on from there
        small, small_style = _at_scale(plan, scale, content), _at_scale(plan, scale, style, content)
        targets = _fit_targets(plan.objective, params, small, small_style, backbone=plan.backbone)
        if current is None:
            current = optimize.start(_initial(plan, start, small, small_style), plan.method)
        elif current.image.shape != small.shape:
            current = optimize.start(resize(current.image, plan.shapes[scale], plan.settings.resample), plan.method)
        try:
            result = optimize.minimise(
                plan.method,
                current,
                (plan.objective, targets, params),
                num_steps=plan.steps[scale],
                chunk=chunk,
                callback=_in_whole_run(callback, plan, scale, begun),
            )
        except NumericsError as error:
            error.result = _solution([*records, error.result], plan.method, scale)
            raise
        records.append(result)
        current = result.state
        if result.stopped:
            break
    return _solution(records, plan.method, scale)


def _in_whole_run(
    callback: optimize.Callback | None, plan: _Plan, scale: int, begun: float
) -> optimize.Callback | None:
    """Let the callback count steps and seconds through all sizes."""
    if callback is None:
        return None
    before, total = sum(plan.steps[:scale]), sum(plan.steps)

    def report(part: optimize.Report) -> bool | None:
        seconds = time.perf_counter() - begun
        return callback(part._replace(first=before + part.first, num_steps=total, seconds=seconds))

    return report


def _position(state: RunState, plan: _Plan) -> tuple[int, optimize.State]:
    scale, shape = int(state.scale), tuple(state.run.image.shape[:2])
    if scale >= len(plan.shapes) or shape != plan.shapes[scale]:
        raise JnstError(
            f"`state` holds a picture of {shape} at size {scale + 1} of its pyramid, but this run has the sizes "
            f"{plan.shapes}: continue with the same pictures and settings"
        )
    return scale, state.run


def _at_scale(plan: _Plan, scale: int, image: Image, content: Image | None = None) -> Image:
    """``image`` reduced as the content picture is, as far as the network allows; ``content`` if it is another one."""
    if scale == len(plan.shapes) - 1:
        return image
    shape = plan.shapes[scale]
    if content is not None:
        ratio = max(max(shape) / max(content.shape[:2]), plan.smallest_side / min(image.shape[:2]))
        shape = fit_shape(_size(image), max(image.shape[:2]) * min(1.0, ratio))
    return resize(image, shape, plan.settings.resample)


def _initial(plan: _Plan, start: _Start, content: Image, style: Image) -> Image:
    if start.init is None or isinstance(start.init, str):
        return INITS[plan.settings.init](start.key, content, style, plan.settings.noise_std)
    return resize(check_picture(start.init, "init"), _size(content), plan.settings.resample)


def _solution(records: list[optimize.Result], method: optimize.Method, scale: int) -> Solution:
    last = records[-1].state
    with_steps = [record for record in records if record.parts]
    names = with_steps[0].parts if with_steps else ()
    return Solution(
        image=jnp.clip(optimize.picture(last, method), 0.0, 1.0),
        losses=np.concatenate([record.total for record in records]),
        parts={name: np.concatenate([record.parts[name] for record in with_steps]) for name in names},
        state=RunState(jnp.int32(scale), last),
    )
