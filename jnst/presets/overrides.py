"""One way to change a preset, for Python, the command line, manifests and sweeps."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from jnst.errors import ArgumentError, hint
from jnst.images import KEEP_COLOUR, METHODS, SEAMLESS, SHARP, Pyramid
from jnst.losses import STYLE_LOSSES, Relative, SquaredError
from jnst.presets.settings import Loading, Network, Preset, Schedule, Terms
from jnst.presets.style_statistics import STATISTICS
from jnst.presets.table import PRESETS
from jnst.solve import Solver
from jnst.solve.optimizers import OPTIMIZERS, Named, Optimizer, check_optimizer

PARTS: dict[str, Any] = {"terms": Terms, "solver": Solver, "schedule": Schedule, "network": Network, "loading": Loading}

PLACES: dict[str, str] = {field.name: part for part, kind in PARTS.items() for field in dataclasses.fields(kind)}
"""The part of a preset that each setting belongs to. Names are unique, so that overrides need not say the part."""

SPECIAL = ("style_statistic", "learning_rate", "min_size", "clamp", "keep_color", "seamless")
"""Settings that are not fields of a part: they change several fields, or one field of a value."""

SETTINGS = (*PLACES, *SPECIAL)
"""Everything that `preset` can change."""


def preset(name: str | Preset = "jnst", **changes: Any) -> Preset:
    """Return a preset, with some of its settings changed.

    Args:
        name: A key of `PRESETS`, or a preset.
        **changes: Settings and their new values: any field of a preset's parts (`jnst.presets.Terms`, `Schedule`,
            `Network`, `Loading`, and `jnst.solve.Solver`) by its name alone, or

            * ``style_statistic``: a key of `jnst.losses.STYLE_LOSSES`. Presets with relative losses stay balanced: the
              loss is made relative too, and weights and optimiser follow `STATISTICS`. Other presets change the loss
              alone, whose values have units of their own.
            * ``optimizer``: a key of `jnst.solve.OPTIMIZERS`, with the settings that the preset's system states for it,
              if any; an optimiser in units of the preset; or an Optax transformation of images in [0, 1].
            * ``learning_rate``: of the optimiser, at every size; None: unchanged.
            * ``num_steps``: a number, or one for each size.
            * ``pyramid``: a `jnst.Pyramid`, None, or True and False for the preset's (else the usual) one and for none.
            * ``min_size``: of the pyramid, if there is one.
            * ``clamp``: True to clip the image to [0, 1] after every step.
            * ``average``: above 0, the average is returned instead of the best image.
            * ``keep_color``: a key of `jnst.images.KEEP_COLOUR`, or None.
            * ``seamless``: a key of `jnst.images.SEAMLESS`, None, or True and False for ``"both"`` and None.

    Raises:
        ArgumentError: An unknown name, setting or value; the message names near matches.

    >>> preset("neural-style-pt", style_weight=50.0, num_steps=300).terms.style_weight
    50.0
    """
    if isinstance(name, str) and name not in PRESETS:
        raise ArgumentError(f"unknown preset {name!r}: {hint(name, PRESETS)}")
    settings = PRESETS[name] if isinstance(name, str) else name
    for change in changes:
        if change not in SETTINGS:
            raise ArgumentError(f"presets have no setting {change!r}: {hint(change, SETTINGS)}")
    rest = dict(changes)
    if (statistic := rest.pop("style_statistic", None)) is not None:
        settings = _with_statistic(settings, statistic)
    if (optimizer := rest.pop("optimizer", None)) is not None:
        settings = _with_optimizer(settings, optimizer)
    if (rate := rest.pop("learning_rate", None)) is not None:
        settings = _with_learning_rate(settings, rate)
    if "clamp" in rest:
        rest["bounds"] = (0.0, 1.0) if rest.pop("clamp") else None
    if rest.get("average"):
        rest.setdefault("keep_best", False)
    if isinstance(rest.get("seamless"), bool):
        rest["seamless"] = "both" if rest["seamless"] else None
    if isinstance(rest.get("pyramid"), bool):
        rest["pyramid"] = (settings.schedule.pyramid or Pyramid()) if rest["pyramid"] else None
    if (min_size := rest.pop("min_size", None)) is not None:
        pyramid = rest.get("pyramid", settings.schedule.pyramid)
        rest["pyramid"] = None if pyramid is None else dataclasses.replace(pyramid, min_size=min_size)
    if "num_steps" in rest and not isinstance(rest["num_steps"], list | tuple):
        rest["num_steps"] = (rest["num_steps"],)
    _check_names(rest)
    return _replace(settings, {key: tuple(value) if isinstance(value, list) else value for key, value in rest.items()})


def name_of(optimizer: Named) -> str:
    """The key of `jnst.solve.OPTIMIZERS` whose kind an optimiser is."""
    return next(name for name, make in OPTIMIZERS.items() if _kind(make()) == _kind(optimizer))


def setting(settings: Preset, name: str) -> Any:
    """The value of a field of one of the parts, by its name."""
    return getattr(getattr(settings, PLACES[name]), name)


def _replace(settings: Preset, changes: dict[str, Any]) -> Preset:
    """Replace fields of the parts, and of the preset itself."""
    own = {name: changes[name] for name in changes if name not in PLACES}
    for part in PARTS:
        inner = {name: value for name, value in changes.items() if PLACES.get(name) == part}
        if inner:
            own[part] = dataclasses.replace(getattr(settings, part), **inner)
    return dataclasses.replace(settings, **own)


def _check_names(changes: dict[str, Any]) -> None:
    known: dict[str, Iterable[str]] = {
        "keep_color": KEEP_COLOUR,
        "seamless": SEAMLESS,
        "resample": METHODS,
        "enlarge": (*METHODS, SHARP),
    }
    for name, choices in known.items():
        value = changes.get(name)
        if value is not None and value not in choices:
            raise ArgumentError(f"unknown {name} {value!r}: {hint(str(value), choices)}")


def _with_statistic(settings: Preset, name: str) -> Preset:
    if name not in STYLE_LOSSES:
        raise ArgumentError(f"unknown style statistic {name!r}: {hint(name, STYLE_LOSSES)}")
    row = STATISTICS[name]
    loss = STYLE_LOSSES[name]() if row.loss is None else row.loss
    if settings.terms.content_loss not in (Relative(SquaredError()), SquaredError("relative")):
        return _replace(settings, {"style_loss": loss})
    weight = settings.terms.style_weight * row.strength
    return preset(settings, style_loss=Relative(loss), style_weight=weight, **dict(row.changes))


def _with_optimizer(settings: Preset, optimizer: str | Optimizer) -> Preset:
    chosen: Any = optimizer
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            raise ArgumentError(f"unknown optimizer {optimizer!r}: {hint(optimizer, OPTIMIZERS)}")
        wanted = OPTIMIZERS[optimizer]()
        stated = (settings.solver.optimizer, *settings.alternatives)
        chosen = next((one for one in stated if isinstance(one, Named) and _kind(one) == _kind(wanted)), wanted)
    check_optimizer(chosen)
    if chosen is settings.solver.optimizer:
        return settings
    unit = settings.solver.unit if isinstance(chosen, Named) else 1.0
    return _replace(settings, {"optimizer": chosen, "unit": unit, "last_learning_rate": None})


def _with_learning_rate(settings: Preset, rate: float) -> Preset:
    optimizer = settings.solver.optimizer
    if not isinstance(optimizer, Named):
        raise ArgumentError(
            "a learning rate for an Optax transformation: set it in the transformation, or use jnst.solve's"
        )
    optimizer = dataclasses.replace(optimizer, learning_rate=rate)
    check_optimizer(optimizer)
    return _replace(settings, {"optimizer": optimizer, "last_learning_rate": None})


def _kind(optimizer: Any) -> tuple[Any, ...]:
    return type(optimizer), *(bool(getattr(optimizer, field, None)) for field in ("zoom", "fourier_power"))
