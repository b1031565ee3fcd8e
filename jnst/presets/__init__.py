"""Published systems' settings, as data, and our own: change one with `preset(name, field=value)`."""

import dataclasses
from typing import Any

from jnst.errors import ArgumentError, JnstError, hint
from jnst.presets.settings import MEASURES, Preset
from jnst.presets.statistics import STATISTICS, with_style_statistic
from jnst.presets.table import PRESETS

__all__ = ["MEASURES", "PRESETS", "STATISTICS", "Preset", "preset", "with_style_statistic"]


def preset(name: str | Preset = "jnst", **changes: Any) -> Preset:
    """Return a preset, with some of its fields changed.

    Args:
        name: A key of `PRESETS`, or a preset.
        **changes: Fields of `Preset` and their new values.

    Raises:
        ArgumentError: An unknown name or field; the message names near matches.
    """
    if isinstance(name, str) and name not in PRESETS:
        raise ArgumentError(f"unknown preset {name!r}: {hint(name, PRESETS)}")
    base = PRESETS[name] if isinstance(name, str) else name
    fields = {field.name: field for field in dataclasses.fields(Preset)}
    for change in changes:
        if change not in fields:
            raise ArgumentError(f"presets have no field {change!r}: {hint(change, fields)}")
    return dataclasses.replace(base, **changes)
