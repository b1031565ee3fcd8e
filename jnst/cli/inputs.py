"""Pictures and masks from files, at the sizes that a preset asks for."""

import sys
from pathlib import Path

import jax

from jnst.backbones import Backbone
from jnst.image import resize_mask
from jnst.io import load_image
from jnst.pictures import size_of
from jnst.presets import MEASURES, Preset
from jnst.types import Guide, Image

DETAIL = 4
"""Where every size of a pyramid is made from the picture itself, so many times the largest is kept of it at most."""


def load_pictures(content: Path, styles: tuple[Path, ...], settings: Preset) -> tuple[Image, list[Image], int | None]:
    """Content and styles, and the longer side that the result is to have; None: the content picture's.

    With a pyramid each size is made from the original, as published programs do it, and not from the largest size.
    """
    if settings.pyramid is not None and settings.measure == "side":
        most = [DETAIL * settings.size, *(round(DETAIL * settings.size * settings.style_scale) for _ in styles)]
        loaded = [
            load_image(path, size=side, resample=settings.resample, enlarge=False)
            for path, side in zip((content, *styles), most, strict=True)
        ]
        return loaded[0], loaded[1:], settings.size
    return _load(content, settings, 1.0), [_load(path, settings, settings.style_scale) for path in styles], None


def _load(path: Path, settings: Preset, scale: float) -> Image:
    side = settings.size * scale
    if settings.measure != "side":
        side *= MEASURES[settings.measure](*size_of(load_image(path)))
    return load_image(path, size=round(side), resample=settings.resample, rounding=settings.rounding)


def load_mask(path: Path, picture: Image) -> Guide:
    """A mask from a picture file, by its brightness, at the size of the picture that it belongs to."""
    return resize_mask(load_image(path).mean(-1), size_of(picture))


def remark(settings: Preset, name: str, backbone: Backbone) -> None:
    """Say what may surprise: no accelerator, or other weights than a published preset's."""
    if jax.default_backend() == "cpu":
        print("jnst: no GPU or TPU found, running on the CPU", file=sys.stderr)
    if settings.weights and backbone.training != settings.weights:
        print(
            f"jnst: preset {name} states its numbers for {settings.weights} weights, these are {backbone.training}: "
            "loss values and the balance of content and style will differ",
            file=sys.stderr,
        )
