"""`jnst presets` and `jnst backbones`: what there is."""

import dataclasses

from jnst.backbones import BACKBONES, make_backbone
from jnst.presets import PRESETS


@dataclasses.dataclass(frozen=True)
class Presets:
    """List the presets, with their source."""

    def run(self) -> int:
        """Print a line for each."""
        width = max(map(len, PRESETS))
        for name, preset in PRESETS.items():
            print(f"{name:<{width}}  {preset.summary}")
            print(f"{'':<{width}}  {'+'.join(map(str, preset.num_steps))} steps, {preset.size} pixels; {preset.source}")
        return 0


@dataclasses.dataclass(frozen=True)
class Backbones:
    """List the networks and their layers."""

    def run(self) -> int:
        """Print a line for each."""
        width = max(map(len, BACKBONES))
        for name in BACKBONES:
            print(f"{name:<{width}}  {' '.join(make_backbone(name).layers)}")
        return 0
