"""`jnst presets`, `jnst statistics` and `jnst backbones`."""

import dataclasses

from jnst.backbones import BACKBONES, make_backbone
from jnst.presets import MEASURES, PRESETS, STATISTICS, Preset

SHAPE = (384, 512)
"""Height and width of the image whose cost is stated, before it is resized."""


def work(settings: Preset) -> float:
    """Steps times pixels of a whole run, in megapixels, for an image of the proportions of `SHAPE`."""
    side = settings.loading.size * MEASURES[settings.loading.measure](*SHAPE)
    shape = round(side * SHAPE[0] / SHAPE[1]), round(side)
    pyramid = settings.schedule.pyramid
    shapes = pyramid.shapes(shape) if pyramid else (shape,)
    steps = settings.schedule.steps(len(shapes))
    return sum(count * height * width for count, (height, width) in zip(steps, shapes, strict=True)) / 1e6


def deepest(settings: Preset) -> str:
    """The deepest VGG layer that a preset needs; empty if it uses whatever the network has."""
    names = (*(settings.terms.content_layers or ()), *(settings.terms.style_layers or ()))
    return max((layer for layer in names if "_" in layer), key=lambda layer: layer[4:], default="")


@dataclasses.dataclass(frozen=True)
class Presets:
    """List the presets with their source, the layers that they need, and their cost relative to the preset jnst."""

    def run(self) -> int:
        """Print two lines for each preset."""
        width = max(map(len, PRESETS))
        for name, preset in PRESETS.items():
            steps = "+".join(map(str, preset.schedule.num_steps))
            facts = [
                f"{steps} steps, {preset.loading.size} pixels",
                f"{work(preset) / work(PRESETS['jnst']):.1f} x the work of jnst",
            ]
            if deepest(preset):
                facts.append(f"weights up to {deepest(preset)}")
            print(f"{name:<{width}}  {preset.summary}")
            print(f"{'':<{width}}  {', '.join(facts)}; {preset.source}")
        return 0


@dataclasses.dataclass(frozen=True)
class Statistics:
    """List the style statistics and what each is good for."""

    def run(self) -> int:
        """Print one line for each statistic."""
        width = max(map(len, STATISTICS))
        for name, statistic in STATISTICS.items():
            print(f"{name:<{width}}  {statistic.good_for}")
        return 0


@dataclasses.dataclass(frozen=True)
class Backbones:
    """List the networks and their layers."""

    def run(self) -> int:
        """Print one line for each network."""
        width = max(map(len, BACKBONES))
        for name in BACKBONES:
            print(f"{name:<{width}}  {' '.join(make_backbone(name).layers)}")
        return 0
