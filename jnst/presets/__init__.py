"""Published systems' settings, as data, and our own: change one with `preset(name, setting=value)`."""

from jnst.presets.overrides import preset
from jnst.presets.settings import MEASURES, Loading, Network, Preset, Schedule, Terms
from jnst.presets.style_statistics import STATISTICS
from jnst.presets.table import PRESETS

__all__ = [
    "MEASURES",
    "PRESETS",
    "STATISTICS",
    "Loading",
    "Network",
    "Preset",
    "Schedule",
    "Terms",
    "preset",
]
