"""Intact image files in every supported format, made by code, for `mutated_images` to damage."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tifffile
from PIL import Image, ImageCms, PngImagePlugin

HEIGHT, WIDTH = 17, 24
ORIENTATION = 274
RNG = np.random.default_rng(23)
RAMP = np.add.outer(np.arange(HEIGHT) * 3, np.arange(WIDTH) * 2)[..., None]
RGB = (RAMP + RNG.integers(0, 90, (HEIGHT, WIDTH, 3))).astype(np.uint8)
ALPHA = RNG.integers(0, 256, (HEIGHT, WIDTH, 1)).astype(np.uint8)
RGBA = np.concatenate([RGB, ALPHA], axis=-1)
GREY = RGB[..., 0]
DEEP = RGBA.astype(np.uint16) * 257
FLOATS = (RGB / np.float32(255)).astype(np.float32)


def wide_gamut() -> bytes:
    """An sRGB profile with red and green primaries swapped, so that the conversion is not the identity."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = data.index(b"rXYZ"), data.index(b"gXYZ")
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


PROFILE = wide_gamut()


def exif(orientation: int = 6) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    tags[305] = "a program"
    tags.get_ifd(0x8769)[36867] = "2020:01:01 00:00:00"
    return tags


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(samples: np.ndarray, colour: int, extra: bytes = b"", interlaced: bool = False) -> bytes:
    """A PNG with the depth of the samples, whose rows claim each filter in turn."""
    height, width, _ = samples.shape
    rows = samples.astype(">u2" if samples.dtype == np.uint16 else np.uint8)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [rows[y::down, x::right] for y, x, down, right in passes] if interlaced else [rows]
    lines = (row.tobytes() for part in parts if part.size for row in part)
    body = b"".join(bytes([number % 5]) + line for number, line in enumerate(lines))
    header = struct.pack(">IIBBBBB", width, height, 8 * rows.dtype.itemsize, colour, 0, 0, interlaced)
    chunks = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(body)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def palette_image() -> Image.Image:
    image = Image.fromarray(GREY % 7)
    image.putpalette(list(range(10, 31)))
    return image


def frames() -> list[Image.Image]:
    return [Image.fromarray(np.roll(RGB, step, axis=1)) for step in (5, 9)]


def pngs() -> Iterator[tuple[str, bytes]]:
    plain = Image.fromarray(RGB)
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "some words " * 9, zip=True)
    text.add_itxt("Title", "ünï", "de", "Titel")
    late = saved(plain, "PNG")
    yield "rgb", saved(plain, "PNG", pnginfo=text)
    yield "rgba", saved(Image.fromarray(RGBA), "PNG")
    yield "grey-alpha", saved(Image.fromarray(np.dstack([GREY, ALPHA])), "PNG")
    yield "palette", saved(palette_image(), "PNG", transparency=bytes([255, 9, 255, 77]))
    yield "bits", saved(Image.fromarray(GREY > 60), "PNG")
    yield "key", saved(plain, "PNG", transparency=tuple(int(level) for level in RGB[3, 4]))
    yield "interlaced", raw_png(RGB, 2, interlaced=True)
    yield "grey16", saved(Image.fromarray(DEEP[..., 0]), "PNG", icc_profile=PROFILE)
    yield "rgb16", raw_png(DEEP[..., :3], 2, png_chunk(b"tRNS", bytes(6)))
    yield "rgba16", raw_png(DEEP, 6, png_chunk(b"iCCP", b"p\0\0" + zlib.compress(PROFILE)))
    yield "grey-alpha16", raw_png(DEEP[..., 2:], 4)
    yield "rgb16-interlaced", raw_png(DEEP[..., :3], 2, interlaced=True)
    yield "animated", saved(plain, "PNG", save_all=True, append_images=frames())
    yield "exif", saved(plain, "PNG", exif=exif())
    yield "late-exif", late[:-12] + png_chunk(b"eXIf", exif(8).tobytes()[6:]) + late[-12:]
    yield "icc", saved(plain, "PNG", icc_profile=PROFILE)


def jpegs() -> Iterator[tuple[str, bytes]]:
    plain, ink = Image.fromarray(RGB), Image.fromarray(RGBA).convert("CMYK")
    yield "baseline", saved(plain, "JPEG")
    yield "full-colour", saved(plain, "JPEG", subsampling=0, quality=98)
    yield "progressive", saved(plain, "JPEG", progressive=True)
    yield "restarts", saved(plain, "JPEG", restart_marker_blocks=1)
    yield "grey", saved(Image.fromarray(GREY), "JPEG", comment=b"words")
    yield "cmyk", saved(ink, "JPEG")
    ycck = bytearray(saved(ink, "JPEG", progressive=True))
    ycck[ycck.index(b"Adobe") + 11] = 2
    yield "ycck", bytes(ycck)
    yield "exif", saved(plain, "JPEG", exif=exif(5))
    yield "icc", saved(plain, "JPEG", icc_profile=PROFILE, exif=exif())
    yield "several", saved(plain, "MPO", save_all=True, append_images=frames())


def webps() -> Iterator[tuple[str, bytes]]:
    plain = Image.fromarray(RGB)
    yield "lossy", saved(plain, "WEBP")
    yield "lossless", saved(plain, "WEBP", lossless=True)
    yield "alpha", saved(Image.fromarray(RGBA), "WEBP")
    yield "lossless-alpha", saved(Image.fromarray(RGBA), "WEBP", lossless=True, exact=True)
    yield "animated", saved(plain, "WEBP", save_all=True, append_images=frames())
    yield "exif", saved(plain, "WEBP", exif=exif(), icc_profile=PROFILE)


def tiffs() -> Iterator[tuple[str, bytes]]:
    plain = Image.fromarray(RGB)
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield compression, saved(plain, "TIFF", compression=compression)
    yield "bits", saved(Image.fromarray(GREY > 60), "TIFF", compression="group4")
    yield "palette", saved(palette_image(), "TIFF")
    yield "rgba", saved(Image.fromarray(RGBA), "TIFF", exif=exif(3))
    yield "cmyk", saved(Image.fromarray(RGBA).convert("CMYK"), "TIFF", compression="tiff_lzw")
    yield "lab", saved(plain.convert("LAB"), "TIFF")
    yield "icc", saved(plain, "TIFF", icc_profile=PROFILE)
    yield "pages", saved(plain, "TIFF", save_all=True, append_images=frames())
    yield "grey16", saved(Image.fromarray(DEEP[..., 0]), "TIFF", compression="tiff_lzw")
    yield "grey16-big-endian", saved(Image.fromarray(DEEP[..., 0].astype(">u2")), "TIFF")
    rgb, deep, options = RGB, DEEP[..., :3], {"photometric": "rgb", "metadata": None}
    strange: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "tiles": (rgb, {"tile": (16, 16)}),
        "tiles-deflate": (rgb, {"tile": (16, 16), "compression": "zlib", "predictor": True}),
        "planes": (np.moveaxis(rgb, -1, 0), {"planarconfig": "separate"}),
        "strips": (rgb, {"rowsperstrip": 4}),
        "deep": (deep, {"extratags": [(ORIENTATION, "H", 1, 6, True)]}),
        "deep-tiles": (deep, {"tile": (16, 16), "compression": "zlib", "predictor": True}),
        "deep-big-tiff": (deep, {"bigtiff": True, "byteorder": ">"}),
        "deep-alpha": (DEEP, {"extrasamples": [2], "iccprofile": PROFILE}),
        "deep-planes": (np.moveaxis(deep, -1, 0), {"planarconfig": "separate"}),
        "float": (FLOATS, {}),
        "float-deflate": (FLOATS, {"compression": "zlib"}),
        "wide-float": (FLOATS * 90 - 20, {"rowsperstrip": 5}),
        "half": (FLOATS.astype(np.float16), {}),
        "uint32": (DEEP[..., :3].astype(np.uint32) * 65537, {}),
        "white-is-zero": (DEEP[..., 0], {"photometric": "miniswhite"}),
    }
    for name, (samples, given) in strange.items():
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, samples, **{**options, **given})
        yield name, buffer.getvalue()


def gifs() -> Iterator[tuple[str, bytes]]:
    image = palette_image()
    yield "plain", saved(image, "GIF", interlace=0)
    yield "interlaced", saved(image, "GIF", interlace=1)
    yield "transparent", saved(image, "GIF", transparency=3, comment=b"words")
    yield "animated", saved(Image.fromarray(RGB), "GIF", save_all=True, append_images=frames(), duration=50, loop=0)
    yield "grey", saved(Image.fromarray(GREY), "GIF")


def others() -> Iterator[tuple[str, bytes]]:
    yield "bmp", saved(Image.fromarray(RGB), "BMP")
    yield "bmp-palette", saved(palette_image(), "BMP")
    yield "ppm", saved(Image.fromarray(RGB), "PPM")
    yield "pgm16", saved(Image.fromarray(DEEP[..., 0]), "PPM")
    yield "ppm-words", b"P3\n3 2\n255\n" + b" ".join(b"%d" % level for level in RGB[0, :6].ravel()) + b"\n"
    yield "pfm", b"Pf\n24 17\n-1.0\n" + FLOATS[..., 0].tobytes()


def seeds() -> dict[str, bytes]:
    """Files by "kind/name"."""
    kinds = {"PNG": pngs, "JPEG": jpegs, "WebP": webps, "TIFF": tiffs, "GIF": gifs, "other": others}
    return {f"{kind}/{name}": data for kind, make in kinds.items() for name, data in make()}
