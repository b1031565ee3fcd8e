"""Reading images: orientation and size."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from image_files import DEEP, ORIENTATION, RGB, UNIT, chunk, load, png16
from PIL import Image

from jnst.apps.io import decode


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an orientation as the EXIF standard defines it, by the places of row 0 and column 0."""
    transposed = stored.swapaxes(0, 1)
    return {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: transposed,
        6: transposed[:, ::-1],
        7: transposed[::-1, ::-1],
        8: transposed[::-1],
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "a.jpg", "deep.png", "deep.tif"])
def test_exif_orientation(name: str, orientation: int, tmp_path: Path):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path, expected = tmp_path / name, RGB / 255
    if name == "deep.png":
        path.write_bytes(png16(DEEP[..., :3], 2, chunk(b"eXIf", exif.tobytes()[6:])))
        expected = UNIT[..., :3]
    elif name == "deep.tif":
        tifffile.imwrite(path, DEEP[..., :3], photometric="rgb", extratags=[(ORIENTATION, "H", 1, orientation, True)])
        expected = UNIT[..., :3]
    elif name == "a.jpg":
        Image.fromarray(RGB).save(path, exif=exif, quality=100, subsampling=0)
        expected = np.asarray(Image.open(path)) / 255
    else:
        Image.fromarray(RGB).save(path, exif=exif, lossless=True)
    np.testing.assert_allclose(load(path), upright(expected, orientation), rtol=0, atol=2e-7)
    assert load(path, 26).shape == ((18, 26, 3) if orientation < 5 else (26, 18, 3))


def test_damaged_exif_warns_and_keeps_the_pixels(tmp_path: Path):
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path, exif=b"Exif\0\0garbage that is no TIFF header")
    with pytest.warns(UserWarning, match=r"a\.png.*EXIF data is damaged"):
        np.testing.assert_array_equal(load(path), RGB.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("size", [1, 5, 13, 40])
@pytest.mark.parametrize("resample", ["bilinear", "bicubic", "lanczos"])
def test_resizing_equals_pillow(size: int, resample: str, tmp_path: Path):
    path = tmp_path / "a.jpg"
    Image.fromarray(RGB).save(path)
    stored = Image.open(path)
    for rounding in ("round", "floor"):
        exact = 9 * size / 13
        height = max(1, int(exact + 0.5) if rounding == "round" else int(size / 13 * 9))
        expected = stored.resize((max(1, size), height), Image.Resampling[resample.upper()])
        actual = load(path, size, resample=resample, rounding=rounding)
        np.testing.assert_array_equal(actual, np.asarray(expected, np.float32) / np.float32(255))


@pytest.mark.parametrize(
    ("name", "size", "rounding", "expected"),
    [
        ("kodim23_parrots.png", 256, "floor", (170, 256)),
        ("kodim08_houses_street.png", 224, "floor", (149, 224)),
        ("kodim23_parrots.png", 136, "round", (91, 136)),
        ("kodim23_parrots.png", 192, "round", (128, 192)),
    ],
)
def test_sizes_of_published_programs(name: str, size: int, rounding: str, expected: tuple, shared: Path):
    image = load(shared / "images" / "content" / name, size, rounding=rounding)
    assert image.shape == (*expected, 3)


def test_floor_follows_the_published_formula_where_division_is_inexact(tmp_path: Path):
    size = next(size for size in range(2, 999) if int(size / 49 * 49) != size)
    Image.new("RGB", (49, 7)).save(tmp_path / "a.png")
    assert load(tmp_path / "a.png", size, rounding="floor").shape[1] == size - 1


def test_deep_images_are_resized_in_float(tmp_path: Path):
    ramp = np.linspace(0, 600, 64 * 64 * 3).astype(np.uint16).reshape(64, 64, 3)  # less than three 8-bit steps
    (tmp_path / "a.png").write_bytes(png16(ramp, 2))
    expected = ramp.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3)) / 65535
    actual = load(tmp_path / "a.png", 32, resample="bilinear")
    np.testing.assert_allclose(actual[2:-2, 2:-2], expected[2:-2, 2:-2], atol=2 / 65535)
    spike = np.zeros((40, 40), np.uint16)
    spike[::4] = 65535
    Image.fromarray(spike).save(tmp_path / "b.png")
    overshot = load(tmp_path / "b.png", 100, resample="lanczos")
    assert overshot.min() >= 0
    assert overshot.max() <= 1


def test_a_large_jpeg_is_decoded_small(tmp_path: Path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = tmp_path / "large.jpg"
    Image.new("L", (12000, 9000), 102).save(path, exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = load(path, 300)
    assert image.shape == (300, 225, 3)
    np.testing.assert_allclose(image, 102 / 255, atol=1e-6)


def test_decoding_at_reduced_size_changes_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    y, x = np.mgrid[:405, :601]
    smooth = np.dstack([128 + 100 * np.sin(x / 60), 128 + 100 * np.cos(y / 50), 128 + 90 * np.sin((x + y) / 80)])
    even, odd = tmp_path / "even.jpg", tmp_path / "odd.jpg"
    Image.fromarray(smooth[:400, :600].astype(np.uint8)).save(even, quality=95)
    Image.fromarray(smooth.astype(np.uint8)).save(odd, quality=95)
    whole = load(even, 75)
    monkeypatch.setattr(decode, "DRAFT_PIXELS", 1000)
    drafted = load(even, 75)
    assert 0 < abs(drafted - whole).max() < 4 / 255
    assert load(odd, 60).shape == (40, 60, 3)  # a quarter, 151x102, would give 41
    whole = Image.open(odd).resize(
        (200, 135), Image.Resampling.BICUBIC
    )  # not reduced: half of 601 is less than twice 200
    np.testing.assert_array_equal(load(odd, 200), np.asarray(whole, np.float32) / np.float32(255))
