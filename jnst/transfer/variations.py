"""Sweeps: the combinations of settings that a batch goes through."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from jnst.errors import ArgumentError, hint
from jnst.presets import Preset
from jnst.transfer.jobs import settings_of

Over = Mapping[str, Sequence[Any]]
"""The names of settings, and the values that each goes through: an axis each."""

BESIDE_PRESETS = ("learning_rate", "seed", "objective")
"""What can be swept besides the fields of `jnst.Preset`."""

OBJECTIVE_SETTINGS = (
    "content_layers",
    "style_layers",
    "content_weight",
    "style_weight",
    "content_layer_weights",
    "style_layer_weights",
    "style_layer_ratio",
    "content_loss",
    "style_loss",
    "tv_weight",
    "total_variation",
    "normalize_gradients",
)
"""The fields of `jnst.Preset` that say what is minimised, and are not looked at where an objective is given."""


def variations(over: Over | None) -> list[dict[str, Any]]:
    """All combinations of a sweep's values, those of the last setting changing fastest; a single empty one of none.

    Raises:
        ArgumentError: An unknown setting, or one without values.
    """
    over = over or {}
    known = (*(field.name for field in dataclasses.fields(Preset)), *BESIDE_PRESETS)
    for name, values in over.items():
        if name not in known:
            raise ArgumentError(f"no setting {name!r} to sweep over: {hint(name, known)}")
        if isinstance(values, str) or len(values) == 0:
            raise ArgumentError(f"sweep over {name}: expected a sequence of values, at least one, got {values!r}")
    return [dict(zip(over, values, strict=True)) for values in itertools.product(*over.values())]


def vary(settings: Preset, change: Mapping[str, Any]) -> Preset:
    """The settings under one of `variations`; ``seed`` and ``objective`` are no settings and left to the caller.

    Raises:
        ArgumentError: As `jnst.transfer.jobs.settings_of`.
    """
    changes: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in change.items()
    }
    if "learning_rate" in changes:
        rate = changes.pop("learning_rate")
        changes |= {
            "optimizer": dataclasses.replace(changes.get("optimizer", settings.optimizer), learning_rate=rate),
            "last_learning_rate": None,
        }
    checked = {name: changes.pop(name) for name in ("num_steps", "init", "keep_color") if name in changes}
    own = {name: value for name, value in changes.items() if name not in BESIDE_PRESETS}
    return settings_of(dataclasses.replace(settings, **own), **checked)
