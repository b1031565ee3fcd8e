"""Convert decoded pixels to opaque sRGB: apply colour profiles, composite over a background."""

import io
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageCms

from jnst.apps.io.decode import Pixels, Samples, one_line

Background: TypeAlias = tuple[float, float, float]

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # data colour space of an ICC profile -> Pillow mode
_SRGB_TOLERANCE = 2  # of 255: the curves of the many sRGB profiles in use differ by this much

SRGB_GAMMA = 2.2
"""PNG files with sRGB samples state the exponent 1 / 2.2."""
GAMMA_TOLERANCE = 0.05
"""The relative difference up to which an exponent counts as the same, as in libpng."""


def to_srgb(
    pixels: Pixels, profile: bytes | None, gamma: float | None, background: Background
) -> tuple[list[Image.Image], list[str]]:
    """Convert an image to sRGB and composite it over a background.

    Compositing uses the sRGB values themselves, not linear light. LittleCMS in Pillow works with 8 bits, so deeper
    images with a profile other than sRGB are reduced to 8 bits.

    Args:
        pixels: The decoded image.
        profile: The embedded ICC profile, or None.
        gamma: The exponent that turned light into the samples; None: they are sRGB.
        background: sRGB in [0, 1].

    Returns:
        One image of mode RGB, or three of mode F (red, green and blue in [0, 1]); and warnings for the user.
    """
    if gamma is not None and abs(gamma * SRGB_GAMMA - 1) > GAMMA_TOLERANCE:
        pixels = _from_gamma(pixels, gamma)
    if isinstance(pixels, Samples):
        transform, notes = _srgb_transform(profile, "L" if pixels.values.shape[-1] <= 2 else "RGB")
        if transform is None:
            return [Image.fromarray(plane) for plane in _composite(pixels, background)], notes
        pixels = _to_8_bits(pixels)
    colour, alpha = _split_alpha(pixels)
    transform, notes = _srgb_transform(profile, colour.mode)
    if transform is not None:
        colour = ImageCms.applyTransform(colour.convert(transform.input_mode), transform) or colour
    colour = colour if colour.mode == "RGB" else colour.convert("RGB")
    if alpha is None:
        return [colour], notes
    canvas = Image.new("RGB", colour.size, tuple(int(255 * value + 0.5) for value in background))
    canvas.paste(colour, mask=alpha)
    return [canvas], notes


def alpha_of(pixels: Pixels) -> Image.Image | None:
    """How opaque each pixel is, of mode L or F (0 to 255); None if all of them are opaque."""
    if isinstance(pixels, Samples):
        values = pixels.values
        alpha = None if values.shape[-1] % 2 else Image.fromarray(np.ascontiguousarray(255 * values[..., -1]))
    else:
        alpha = _split_alpha(pixels)[1]
    if alpha is None:
        return None
    lowest: Any = alpha.getextrema()[0]
    return alpha if lowest < 255 else None


def _from_gamma(pixels: Pixels, gamma: float) -> Pixels:
    """Encode samples as sRGB that are light to the power of ``gamma``."""
    if isinstance(pixels, Samples):
        colours = pixels.values.shape[-1] - (pixels.values.shape[-1] % 2 == 0)
        values = np.concatenate([_encode(pixels.values[..., :colours], gamma), pixels.values[..., colours:]], axis=-1)
        return Samples(values, pixels.premultiplied)
    colour, alpha = _split_alpha(pixels)
    levels = np.floor(255 * _encode(np.linspace(0, 1, 256), gamma) + 0.5).astype(int).tolist()
    converted = colour.point(levels * len(colour.getbands()))
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _encode(samples: np.ndarray, gamma: float) -> np.ndarray:
    """The sRGB values (IEC 61966-2-1) of samples that are light to the power of ``gamma``."""
    light = np.clip(samples, 0, 1) ** (1 / gamma)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)


def _composite(samples: Samples, background: Background) -> list[np.ndarray]:
    """Red, green and blue planes `(h, w)` of an image over a background."""
    values = samples.values
    channels = values.shape[-1]
    planes = [values[..., index if channels >= 3 else 0] for index in range(3)]
    if channels in (2, 4):
        alpha = values[..., -1]
        factor = np.float32(1) if samples.premultiplied else alpha
        planes = [plane * factor + (1 - alpha) * np.float32(b) for plane, b in zip(planes, background, strict=True)]
    return [np.ascontiguousarray(plane, np.float32) for plane in planes]


def _to_8_bits(samples: Samples) -> Image.Image:
    values = samples.values
    if samples.premultiplied:
        colour, alpha = values[..., :-1], values[..., -1:]
        colour = np.divide(colour, alpha, out=np.zeros_like(colour), where=alpha > 0)
        values = np.concatenate([colour, alpha], axis=-1)
    levels = (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours of an image, in one of the modes of `_MODES`, and its transparency if there is any."""
    if image.mode == "LA":
        colour, alpha = image.split()
        return colour, alpha
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return image.convert("RGB"), image.getchannel("A")
    if image.mode in _MODES.values():
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _srgb_transform(profile: bytes | None, mode: str) -> tuple[ImageCms.ImageCmsTransform | None, list[str]]:
    """Find the conversion from an ICC profile to sRGB, with the perceptual intent.

    Args:
        profile: The ICC profile, or None.
        mode: The image's mode: L, RGB or CMYK.

    Returns:
        The transform, which expects images of its `input_mode`, or None where the pixels are taken to be sRGB; and a
        warning if the profile is damaged or does not fit the image. An RGB profile also fits a grey image.
    """
    if not profile:
        return None, []
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = profile[16:20].decode("latin-1").strip()  # ICC.1, table 17: the header's data colour space
        accepted = _MODES.get(space)
        if accepted is None or (accepted != mode and (accepted, mode) != ("RGB", "L")):
            return None, [
                f"its colour profile is for {one_line(space)} data, but the pixels are {mode}: they are taken as sRGB"
            ]
        target = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, target, accepted, "RGB", ImageCms.Intent.PERCEPTUAL)
        return (None if _is_identity(transform, accepted) else transform), []
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        return None, [f"its colour profile is damaged ({one_line(str(error))}): the pixels are taken as sRGB"]


def _is_identity(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a transform to sRGB changes a lattice of colours by no more than rounding: its source is sRGB, too."""
    if mode == "CMYK":
        return False
    ramp = np.linspace(0, 255, 18).astype(np.uint8)
    lattice = np.stack(np.meshgrid(ramp, ramp, ramp), axis=-1).reshape(-1, 18, 3)
    probe = Image.fromarray(lattice if mode == "RGB" else lattice[..., 0])
    converted = ImageCms.applyTransform(probe, transform)
    if converted is None:
        return False
    difference = np.asarray(converted, np.int16) - np.asarray(probe.convert("RGB"), np.int16)
    return int(abs(difference).max()) <= _SRGB_TOLERANCE
