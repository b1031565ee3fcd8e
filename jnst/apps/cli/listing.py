"""`jnst presets`, `jnst statistics` and `jnst backbones`: what there is."""

import dataclasses

from jnst.backbones import BACKBONES, make_backbone
from jnst.presets import MEASURES, PRESETS, STATISTICS, Preset

USUAL = (384, 512)
"""Height and width of the image for which costs are stated, before it is resized."""


def work(settings: Preset) -> float:
    """Steps times pixels of a whole run, in megapixels, for an image of `USUAL` proportions."""
    side = settings.size * MEASURES[settings.measure](*USUAL)
    shape = round(side * USUAL[0] / USUAL[1]), round(side)
    shapes = settings.pyramid.shapes(shape) if settings.pyramid else (shape,)
    last = len(settings.num_steps) - 1
    return sum(settings.num_steps[min(i, last)] * h * w for i, (h, w) in enumerate(shapes)) / 1e6


def deepest(settings: Preset) -> str:
    """The deepest layer that a preset needs, as VGG networks name them; nothing if it takes what there is."""
    layers = [layer for layer in (*(settings.content_layers or ()), *(settings.style_layers or ())) if "_" in layer]
    return max(layers, key=lambda layer: layer[4:], default="")


@dataclasses.dataclass(frozen=True)
class Presets:
    """List the presets: their source, the layers that they need, and what they cost beside the preset jnst."""

    def run(self) -> int:
        """Print two lines for each."""
        width = max(map(len, PRESETS))
        for name, preset in PRESETS.items():
            steps = "+".join(map(str, preset.num_steps))
            facts = [
                f"{steps} steps, {preset.size} pixels",
                f"{work(preset) / work(PRESETS['jnst']):.1f} x jnst's work",
            ]
            if deepest(preset):
                facts.append(f"weights down to {deepest(preset)}")
            print(f"{name:<{width}}  {preset.summary}")
            print(f"{'':<{width}}  {', '.join(facts)}; {preset.source}")
        return 0


@dataclasses.dataclass(frozen=True)
class Statistics:
    """List the style statistics, and what each is good for."""

    def run(self) -> int:
        """Print a line for each."""
        width = max(map(len, STATISTICS))
        for name, statistic in STATISTICS.items():
            print(f"{name:<{width}}  {statistic.good_for}")
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
