"""Reading images: formats, frames, file names and arguments."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from image_files import (
    ALPHA,
    BACKGROUND,
    DEEP,
    FLOATS,
    LUMA,
    PREMULTIPLIED,
    RGB,
    RNG,
    UNASSOCIATED,
    UNIT,
    chunk,
    grey,
    load,
    over,
    png16,
)
from PIL import Image

from jnst.apps.io import load_image
from jnst.errors import ImageError, JnstError


def palette_image() -> Image.Image:
    image = Image.fromarray(np.arange(117, dtype=np.uint8).reshape(9, 13) % 5)
    image.putpalette([10, 20, 30, 250, 0, 0, 0, 250, 0, 0, 0, 250, 9, 8, 7])
    return image


PALETTE = np.array([[10, 20, 30], [250, 0, 0], [0, 250, 0], [0, 0, 250], [9, 8, 7]])[np.arange(117).reshape(9, 13) % 5]
BITS = ALPHA > 127
CMYK = np.dstack([RGB, ALPHA])
CMYK_AS_RGB = (255 - RGB.astype(float)) * (255 - ALPHA[..., None].astype(float)) / 255
HALF_CLEAR = (np.arange(117).reshape(9, 13) % 5 != 1).astype(float)
YCBCR = Image.fromarray(RGB).convert("YCbCr")
STEP = 0.51 / 255  # half of an 8-bit step

PILLOW_CASES = {
    "grey.png": (Image.fromarray(LUMA), {}, grey(LUMA) / 255, 0),
    "grey_alpha.png": (Image.fromarray(np.dstack([LUMA, ALPHA])), {}, over(grey(LUMA) / 255, ALPHA / 255), 2 * STEP),
    "rgb.png": (Image.fromarray(RGB), {}, RGB / 255, 0),
    "rgba.png": (Image.fromarray(np.dstack([RGB, ALPHA])), {}, over(RGB / 255, ALPHA / 255), 2 * STEP),
    "bits.png": (Image.fromarray(BITS), {}, grey(BITS.astype(float)), 0),
    "palette.png": (palette_image(), {}, PALETTE / 255, 0),
    "palette_clear.png": (palette_image(), {"transparency": 1}, over(PALETTE / 255, HALF_CLEAR), 0),
    "palette_alphas.png": (
        palette_image(),
        {"transparency": bytes([255, 51, 255, 255, 255])},
        over(PALETTE / 255, np.where(HALF_CLEAR, 1, 0.2)),
        2 * STEP,
    ),
    "rgb_key.png": (
        Image.fromarray(RGB),
        {"transparency": tuple(int(v) for v in RGB[4, 4])},
        over(RGB / 255, 1.0 - (RGB[4, 4] == RGB).all(-1)),
        0,
    ),
    "grey16.png": (Image.fromarray(DEEP[..., 0]), {}, grey(DEEP[..., 0]) / 65535, 1e-7),
    "rgb.bmp": (Image.fromarray(RGB), {}, RGB / 255, 0),
    "rgb.ppm": (Image.fromarray(RGB), {}, RGB / 255, 0),
    "grey16.pgm": (Image.fromarray(DEEP[..., 0]), {}, grey(DEEP[..., 0]) / 65535, 1e-7),
    "palette.gif": (palette_image(), {}, PALETTE / 255, 0),
    "palette_clear.gif": (palette_image(), {"transparency": 1}, over(PALETTE / 255, HALF_CLEAR), 0),
    "rgb.webp": (Image.fromarray(RGB), {"lossless": True}, RGB / 255, 0),
    "rgba.webp": (
        Image.fromarray(np.dstack([RGB, ALPHA])),
        {"lossless": True, "exact": True},
        over(RGB / 255, ALPHA / 255),
        2 * STEP,
    ),
    "rgb.tiff": (Image.fromarray(RGB), {"compression": "tiff_lzw"}, RGB / 255, 0),
    "grey16_lzw.tiff": (Image.fromarray(DEEP[..., 0]), {"compression": "tiff_lzw"}, grey(DEEP[..., 0]) / 65535, 1e-7),
    "cmyk.tiff": (Image.frombytes("CMYK", (13, 9), CMYK.tobytes()), {}, CMYK_AS_RGB / 255, 2 * STEP),
    "ycbcr.tiff": (YCBCR, {}, np.asarray(YCBCR.convert("RGB")) / 255, 0),
    "fax.tiff": (Image.fromarray(BITS), {"compression": "group4"}, grey(BITS.astype(float)), 0),
    "lying_suffix.png": (Image.fromarray(RGB), {"format": "BMP"}, RGB / 255, 0),
}


@pytest.mark.parametrize("name", PILLOW_CASES)
def test_formats(name: str, tmp_path: Path):
    image, options, expected, tolerance = PILLOW_CASES[name]
    image.save(tmp_path / name, **options)
    np.testing.assert_allclose(load(tmp_path / name, background=BACKGROUND), expected, rtol=0, atol=tolerance + 1e-6)


KEY = chunk(b"tRNS", struct.pack(">HHH", *(int(v) for v in DEEP[4, 4, :3])))
PNG16_CASES = {
    "rgb": (png16(DEEP[..., :3], 2), UNIT[..., :3]),
    "rgba": (png16(DEEP, 6), over(UNIT[..., :3], UNIT[..., 3])),
    "grey_alpha": (png16(DEEP[..., :2], 4), over(grey(UNIT[..., 0]), UNIT[..., 1])),
    "rgb_key": (png16(DEEP[..., :3], 2, KEY), over(UNIT[..., :3], 1.0 - (DEEP[..., :3] == DEEP[4, 4, :3]).all(-1))),
    "grey_key": (
        png16(DEEP[..., :1], 0, chunk(b"tRNS", struct.pack(">H", int(DEEP[4, 4, 0])))),
        over(grey(UNIT[..., 0]), 1.0 - (DEEP[..., 0] == DEEP[4, 4, 0])),
    ),
}


@pytest.mark.parametrize("name", PNG16_CASES)
def test_16_bit_png_keeps_its_depth(name: str, tmp_path: Path):
    data, expected = PNG16_CASES[name]
    path = tmp_path / "deep.png"
    path.write_bytes(data)
    np.testing.assert_allclose(load(path, background=BACKGROUND), expected, rtol=0, atol=2e-7)


WIDE = RNG.uniform(-3, 40, (9, 13, 3)).astype(np.float32)
TIFF_CASES = {
    "rgb16": (DEEP[..., :3], {"photometric": "rgb"}, UNIT[..., :3]),
    "rgb16_deflate": (DEEP[..., :3], {"photometric": "rgb", "compression": "zlib"}, UNIT[..., :3]),
    "rgb16_big_endian": (DEEP[..., :3], {"photometric": "rgb", "byteorder": ">"}, UNIT[..., :3]),
    "rgb16_big_tiff": (DEEP[..., :3], {"photometric": "rgb", "bigtiff": True}, UNIT[..., :3]),
    "rgb16_planes": (
        np.moveaxis(DEEP[..., :3], -1, 0),
        {"photometric": "rgb", "planarconfig": "separate"},
        UNIT[..., :3],
    ),
    "grey16": (DEEP[..., 0], {"photometric": "minisblack"}, grey(UNIT[..., 0])),
    "white_is_zero_8_bits": (LUMA, {"photometric": "miniswhite"}, 1 - grey(LUMA) / 255),
    "white_is_zero": (DEEP[..., 0], {"photometric": "miniswhite"}, 1 - grey(UNIT[..., 0])),
    "rgba16": (
        DEEP,
        {"photometric": "rgb", "extrasamples": [UNASSOCIATED]},
        over(UNIT[..., :3], UNIT[..., 3]),
    ),
    "premultiplied": (
        (FLOATS * FLOATS[..., 3:])[..., :3].astype(np.float32),
        {"photometric": "rgb", "extrasamples": [PREMULTIPLIED], "alpha": FLOATS[..., 3:]},
        over(FLOATS[..., :3].astype(float), FLOATS[..., 3].astype(float)),
    ),
    "uint32": (DEEP[..., 0].astype(np.uint32) * 65537, {"photometric": "minisblack"}, grey(UNIT[..., 0])),
    "float": (FLOATS[..., :3], {"photometric": "rgb"}, FLOATS[..., :3]),
    "float16": (FLOATS[..., :3].astype(np.float16), {"photometric": "rgb"}, FLOATS[..., :3].astype(np.float16)),
    "float_scaled": (WIDE, {"photometric": "rgb"}, (WIDE - WIDE.min()) / (WIDE.max() - WIDE.min())),
}


@pytest.mark.parametrize("name", TIFF_CASES)
def test_deep_tiff(name: str, tmp_path: Path):
    data, options, expected = TIFF_CASES[name]
    options = dict(options)
    if (alpha := options.pop("alpha", None)) is not None:
        data = np.concatenate([data, alpha], axis=-1)
    tifffile.imwrite(tmp_path / "deep.tif", data, **options)
    np.testing.assert_allclose(load(tmp_path / "deep.tif", background=BACKGROUND), expected, rtol=0, atol=3e-7)


def test_16_bit_cmyk_tiff(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", CMYK.astype(np.uint16) * 257, photometric="separated")
    np.testing.assert_allclose(load(tmp_path / "a.tif"), CMYK_AS_RGB / 255, rtol=0, atol=2 * STEP)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.full((4, 4), np.nan, np.float32), "expected finite"),
        (np.full((4, 4, 4), [0.5, 0.5, 0.5, np.inf], np.float32), "expected finite"),
        (np.zeros((4, 4), np.int16), "unsigned integers or floats"),
    ],
)
def test_unusable_tiff_samples(samples: np.ndarray, message: str, tmp_path: Path):
    tifffile.imwrite(tmp_path / "odd.tif", samples, photometric="minisblack" if samples.ndim == 2 else "rgb")
    with pytest.raises(ImageError, match=rf"odd\.tif.*{message}"):
        load_image(tmp_path / "odd.tif")


def test_portable_float_map(tmp_path: Path):
    path = tmp_path / "a.pfm"
    path.write_bytes(b"Pf\n13 9\n-1.0\n" + FLOATS[::-1, :, 0].tobytes())  # rows from bottom to top
    np.testing.assert_array_equal(load(path), grey(FLOATS[..., 0]))
    path.write_bytes(b"Pf\n1 1\n-1.0\n" + struct.pack("<f", float("nan")))
    with pytest.raises(ImageError, match=r"a\.pfm.*expected finite"):
        load_image(path)


def test_adobe_cmyk_and_ycck_jpeg(tmp_path: Path):
    ink = (200, 60, 30, 40)
    solid = Image.new("CMYK", (32, 32), ink)
    buffer = io.BytesIO()
    solid.save(buffer, "JPEG", quality=100)
    (tmp_path / "cmyk.jpg").write_bytes(buffer.getvalue())
    expected = [(255 - level) * (255 - ink[3]) / 255**2 for level in ink[:3]]
    np.testing.assert_allclose(load(tmp_path / "cmyk.jpg"), np.broadcast_to(expected, (32, 32, 3)), atol=3 / 255)

    # Stored channels are inverted ink. Marked as YCCK and with neutral Cb and Cr, each of C, M, Y becomes 255 - Y'.
    buffer = io.BytesIO()
    Image.new("CMYK", (32, 32), (255 - 180, 127, 127, 255 - 200)).save(buffer, "JPEG", quality=100)
    marked = bytearray(buffer.getvalue())
    marked[marked.index(b"Adobe") + 11] = 2
    (tmp_path / "ycck.jpg").write_bytes(marked)
    np.testing.assert_allclose(load(tmp_path / "ycck.jpg"), (255 - 180) * 200 / 255**2, atol=3 / 255)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif", "deep.tif"])
def test_first_of_several_frames(name: str, tmp_path: Path):
    path = tmp_path / name
    if name == "deep.tif":
        tifffile.imwrite(path, np.stack([np.full((9, 13, 3), v, np.uint16) for v in (13107, 0)]), photometric="rgb")
    else:
        frames = [Image.new("RGB", (13, 9), (51, 51, 51)), Image.new("RGB", (13, 9), (0, 99, 0))]
        frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    with pytest.warns(UserWarning, match="several frames or pages"):
        np.testing.assert_allclose(load(path), 0.2, atol=1e-6)


@pytest.mark.parametrize("name", ["with space.png", "-dash.png", "line\nbreak.png", "ünï.png", b"\xff\xfe.png"])
def test_odd_names(name: str | bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "PNG")
    with open(name, "wb") as file:
        file.write(buffer.getvalue())
    assert load_image(name).shape == (9, 13, 3)
    with open(name, "wb"):
        pass
    with pytest.raises(ImageError) as caught:
        load_image(name)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (0, {}, "`size` is 0"),
        (-3, {}, "`size` is -3"),
        (2.5, {}, r"`size` is 2\.5"),
        (True, {}, "`size` is True"),
        (10**7, {}, "megapixels"),
        (10**400, {}, "`size` is 1000"),
        (4, {"resample": "bicubik"}, "did you mean 'bicubic'.*'bilinear', 'bicubic', 'lanczos'"),
        (4, {"rounding": "ceil"}, "'round', 'floor'"),
        (4, {"background": (255, 255, 255)}, "background.*in \\[0, 1\\]"),
        (4, {"background": (0.5, 0.5)}, "background"),
        (4, {"background": (0.5, 0.5, float("nan"))}, "background"),
    ],
)
def test_wrong_arguments(size, options: dict, message: str, tmp_path: Path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    with pytest.raises(JnstError, match=message) as caught:
        load_image(tmp_path / "a.png", size, **options)
    assert "\n" not in str(caught.value)
