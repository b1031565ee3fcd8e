"""Another optimiser in place of a preset's."""

import dataclasses
from typing import Any

from jnst.errors import ArgumentError, hint
from jnst.presets.settings import Preset
from jnst.solve.optimizers import OPTIMIZERS, Settings


def name_of(optimizer: Settings) -> str:
    """The key of `jnst.solve.optimizers.OPTIMIZERS` whose kind an optimiser is."""
    return next(name for name, make in OPTIMIZERS.items() if _same_kind(make(), optimizer))


def with_optimizer(settings: Preset, name: str, learning_rate: float | None = None) -> Preset:
    """A preset with another optimiser, with the settings that its system states for that one, if any.

    Args:
        settings: Any preset.
        name: A key of `jnst.solve.optimizers.OPTIMIZERS`; the preset's own one stays as it is.
        learning_rate: In units of the images that the preset's system optimises; None: as stated, else as usual.

    Raises:
        ArgumentError: An unknown name.
    """
    if name not in OPTIMIZERS:
        raise ArgumentError(f"unknown optimizer {name!r}: {hint(name, OPTIMIZERS)}")
    wanted = OPTIMIZERS[name]()
    stated = (settings.optimizer, *settings.alternatives)
    chosen = next((optimizer for optimizer in stated if _same_kind(optimizer, wanted)), wanted)
    if learning_rate is not None:
        chosen = dataclasses.replace(chosen, learning_rate=learning_rate)
    if chosen == settings.optimizer:
        return settings
    return dataclasses.replace(settings, optimizer=chosen, last_learning_rate=None)


def _same_kind(left: Any, right: Any) -> bool:
    return _kind(left) == _kind(right)


def _kind(optimizer: Any) -> tuple[Any, ...]:
    return type(optimizer), *(bool(getattr(optimizer, field, None)) for field in ("zoom", "decay_power"))
