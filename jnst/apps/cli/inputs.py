"""Images and masks from files, at the sizes that a preset asks for."""

import sys
from pathlib import Path

from jnst.apps.cli.devices import no_accelerator
from jnst.apps.io import load_image
from jnst.apps.io.readings import read, reading, result_size
from jnst.backbones import Backbone
from jnst.errors import ArgumentError
from jnst.images import resize_mask, size_of
from jnst.losses.objective import IMAGE
from jnst.presets import Preset, preset
from jnst.types import Guide, Image


def load_images(content: Path, styles: tuple[Path, ...], settings: Preset) -> tuple[Image, list[Image], int | None]:
    """Content and styles, and the longer side that the result is to have; None: the content image's."""
    scales = (1.0, *(settings.style_scale for _ in styles))
    first, *others = (
        read(path, reading(path, settings, scale)) for path, scale in zip((content, *styles), scales, strict=True)
    )
    return first, others, result_size(settings)


def load_mask(path: Path, image: Image) -> Guide:
    """A mask from an image file, by its brightness, at the size of the image that it belongs to."""
    return resize_mask(load_image(path).mean(-1), size_of(image))


def check_preset_layers(settings: Preset, name: str, backbone: Backbone, kinds: tuple[str, ...]) -> None:
    """Refuse a network that does not have a preset's own layers: it is not these that were mistyped.

    Args:
        settings: The preset with the flags put in.
        name: The preset.
        backbone: The network.
        kinds: Which of "content" and "style" are compared.

    Raises:
        ArgumentError: Layers that the preset states, and no flag replaces, are missing.
    """
    missing: dict[str, list[str]] = {}
    for field in (f"{kind}_layers" for kind in kinds):
        layers = getattr(settings, field)
        if layers and layers == getattr(preset(name), field):
            missing[field] = [layer for layer in layers if layer not in (*backbone.all_layers, IMAGE)]
    if any(missing.values()):
        lacking = ", ".join(dict.fromkeys(layer for layers in missing.values() for layer in layers))
        flags = " and ".join(f"--{field.replace('_', '-')}" for field, layers in missing.items() if layers)
        raise ArgumentError(
            f"preset {name} needs {lacking}, which {backbone.name} does not have: choose a network that does, "
            f"such as --backbone vgg19 --weights FILE, or other {flags} (see jnst backbones)"
        )


def remark(settings: Preset, name: str, backbone: Backbone) -> None:
    """Say what may surprise: no accelerator, or other weights than a published preset's."""
    if (without := no_accelerator()) is not None:
        print(f"jnst: {without}, running on the CPU", file=sys.stderr)
    if settings.weights and backbone.training != settings.weights:
        print(
            f"jnst: preset {name} states its numbers for {settings.weights} weights, these are {backbone.training}: "
            "loss values and the balance of content and style will differ",
            file=sys.stderr,
        )
