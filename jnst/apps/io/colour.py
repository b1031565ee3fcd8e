"""Colour of 8-bit Pillow images: embedded profiles to sRGB, transparency onto a background."""

import io
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageCms

from jnst.apps.io.files import one_line

Background: TypeAlias = tuple[float, float, float]

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # ICC data colour space -> Pillow mode
_SRGB_TOLERANCE = 2  # of 255: the tables of the many sRGB profiles in use differ by so much


def flatten(image: Image.Image, profile: bytes | None, background: Background) -> tuple[Image.Image, list[str]]:
    """An 8-bit image of any mode as opaque sRGB, and what there is to warn about.

    Transparent pixels are composited over `background` with the sRGB values themselves, not with linear light.

    Args:
        image: any 8-bit Pillow mode.
        profile: the embedded ICC profile, if there is one.
        background: sRGB in [0, 1].

    Returns:
        The image in mode RGB, and the warnings.
    """
    colour, alpha = _split_alpha(image)
    transform, notes = srgb_transform(profile, colour.mode)
    if transform is not None:
        colour = ImageCms.applyTransform(colour.convert(transform.input_mode), transform) or colour
    colour = colour if colour.mode == "RGB" else colour.convert("RGB")
    if alpha is None:
        return colour, notes
    canvas = Image.new("RGB", colour.size, tuple(int(255 * value + 0.5) for value in background))
    canvas.paste(colour, mask=alpha)
    return canvas, notes


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    if image.mode == "LA":
        colour, alpha = image.split()
        return colour, alpha
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return image.convert("RGB"), image.getchannel("A")
    if image.mode in _MODES.values():
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def srgb_transform(profile: bytes | None, mode: str) -> tuple[ImageCms.ImageCmsTransform | None, list[str]]:
    """The conversion from an ICC profile to sRGB, with the perceptual intent.

    Args:
        profile: the bytes of an ICC profile, or None.
        mode: the image's: L, RGB or CMYK.

    Returns:
        The transform, which takes its own `input_mode`, or None where the pixels are or must be taken as sRGB; and a
        warning where the profile is broken or for other data. A profile for RGB also serves a grey image.
    """
    if not profile:
        return None, []
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = profile[16:20].decode("latin-1").strip()  # ICC.1, table 17: the header's data colour space
        accepted = _MODES.get(space)
        if accepted is None or (accepted != mode and (accepted, mode) != ("RGB", "L")):
            return None, [
                f"its colour profile is for {one_line(space)} data, the pixels are {mode}: they are taken as sRGB"
            ]
        target = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, target, accepted, "RGB", ImageCms.Intent.PERCEPTUAL)
        return (None if _keeps_values(transform, accepted) else transform), []
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        return None, [f"its colour profile is broken ({one_line(str(error))}): the pixels are taken as sRGB"]


def _keeps_values(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a transform is the identity up to rounding, tried on a lattice of colours: then the profile is sRGB."""
    if mode == "CMYK":
        return False
    ramp = np.linspace(0, 255, 18).astype(np.uint8)
    lattice = np.stack(np.meshgrid(ramp, ramp, ramp), axis=-1).reshape(-1, 18, 3)
    probe = Image.fromarray(lattice if mode == "RGB" else lattice[..., 0])
    moved = ImageCms.applyTransform(probe, transform)
    if moved is None:
        return False
    difference = np.asarray(moved, np.int16) - np.asarray(probe.convert("RGB"), np.int16)
    return int(abs(difference).max()) <= _SRGB_TOLERANCE
