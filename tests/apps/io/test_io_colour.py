"""Reading images: embedded colour profiles, against their closed form."""

import struct
import zlib
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
    UNIT,
    chunk,
    grey,
    load,
    over,
    png16,
)
from PIL import Image, ImageCms

SRGB = ImageCms.createProfile("sRGB")
D50_SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
D50_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
GAMMA = 461 / 256  # u8Fixed8, as an ICC curve of one entry holds it


def icc(space: bytes, tags: dict[bytes, bytes], connection: bytes = b"XYZ ") -> bytes:
    """A display profile, version 2.1 of the format."""
    offset, table, body = 132 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    d50 = struct.pack(">iii", 63190, 65536, 54061)
    date = struct.pack(">6H", 2020, 1, 1, 0, 0, 0)
    head = bytes(8) + struct.pack(">I", 0x02100000) + b"mntr" + space + connection + date + b"acsp" + bytes(28) + d50
    head = head.ljust(128, b"\0") + struct.pack(">I", len(tags))
    whole = head + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">iii", *(round(float(value) * 65536) for value in values))


CURVE = b"curv\0\0\0\0" + struct.pack(">IH", 1, 461)
WHITE = xyz(np.array([0.9642, 1, 0.8249]))
P3_GAMMA = icc(
    b"RGB ",
    {b"wtpt": WHITE, b"rTRC": CURVE, b"gTRC": CURVE, b"bTRC": CURVE}
    | {name: xyz(D50_P3[:, column]) for column, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
)
GREY_GAMMA = icc(b"GRAY", {b"wtpt": WHITE, b"kTRC": CURVE})


def corner_table(lightness: float) -> bytes:
    """A lut16Type that maps black to black and the other seven corners of the RGB cube to one grey in CIELAB."""
    sides = bytes((3, 3, 2, 0)) + struct.pack(">9i", *np.eye(3, dtype=int).ravel() * 65536) + struct.pack(">HH", 2, 2)
    identity = struct.pack(">6H", *(0, 65535) * 3)
    black, lab = (struct.pack(">3H", round(level * 652.8), 0x8000, 0x8000) for level in (0, lightness))
    return b"mft2\0\0\0\0" + sides + identity + black + lab * 7 + identity


def srgb_from(encoded: np.ndarray, primaries: np.ndarray) -> np.ndarray:
    linear = np.clip(encoded**GAMMA @ (np.linalg.inv(D50_SRGB) @ primaries).T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(
    ("image", "profile", "expected"),
    [
        (RGB, P3_GAMMA, srgb_from(RGB / 255, D50_P3)),
        (LUMA, P3_GAMMA, srgb_from(grey(LUMA) / 255, D50_P3)),
        (LUMA, GREY_GAMMA, srgb_from(grey(LUMA) / 255, D50_SRGB)),
        (np.dstack([LUMA, ALPHA]), GREY_GAMMA, over(srgb_from(grey(LUMA) / 255, D50_SRGB), ALPHA / 255)),
        (np.dstack([RGB, ALPHA]), P3_GAMMA, over(srgb_from(RGB / 255, D50_P3), ALPHA / 255)),
    ],
)
def test_other_profiles_become_srgb(image: np.ndarray, profile: bytes, expected: np.ndarray, tmp_path: Path):
    Image.fromarray(image).save(tmp_path / "a.png", icc_profile=profile)
    actual = load(tmp_path / "a.png", background=BACKGROUND)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2.5 / 255)
    assert abs(actual - image.astype(float).reshape(9, 13, -1)[..., :1] / 255).max() > 8 / 255


def test_profile_of_a_16_bit_image(tmp_path: Path):
    def compressed(data: bytes) -> bytes:
        return chunk(b"iCCP", b"p\0\0" + zlib.compress(data))

    path = tmp_path / "deep.png"
    path.write_bytes(png16(DEEP, 6, compressed(P3_GAMMA)))
    expected = over(srgb_from(UNIT[..., :3], D50_P3), UNIT[..., 3])
    np.testing.assert_allclose(load(path, background=BACKGROUND), expected, rtol=0, atol=2.5 / 255)
    path.write_bytes(png16(DEEP[..., :3], 2, compressed(ImageCms.ImageCmsProfile(SRGB).tobytes())))
    np.testing.assert_allclose(load(path), UNIT[..., :3], rtol=0, atol=1e-7)
    options = {"photometric": "rgb", "extrasamples": [PREMULTIPLIED], "iccprofile": P3_GAMMA}
    faded = np.dstack([FLOATS[..., :3] * FLOATS[..., 3:], FLOATS[..., 3]])
    tifffile.imwrite(tmp_path / "a.tif", faded, **options)
    expected = over(srgb_from(FLOATS[..., :3].astype(float), D50_P3), FLOATS[..., 3].astype(float))
    np.testing.assert_allclose(load(tmp_path / "a.tif", background=BACKGROUND), expected, rtol=0, atol=2.5 / 255)


def test_an_srgb_profile_changes_nothing(tmp_path: Path):
    profile = ImageCms.ImageCmsProfile(SRGB).tobytes()
    Image.fromarray(RGB).save(tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(load(tmp_path / "a.png"), RGB.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("profile", [b"not a profile", P3_GAMMA[:200], GREY_GAMMA])
def test_an_unusable_profile_is_ignored_with_a_warning(profile: bytes, tmp_path: Path):
    Image.fromarray(RGB).save(tmp_path / "a.png", icc_profile=profile)
    with pytest.warns(UserWarning, match=r"a\.png.*profile is.*taken as sRGB"):
        np.testing.assert_array_equal(load(tmp_path / "a.png"), RGB.astype(np.float32) / np.float32(255))


def test_the_intent_is_perceptual(tmp_path: Path):
    tables = {b"A2B0": corner_table(50), b"A2B1": corner_table(20), b"A2B2": corner_table(80)}
    profile = icc(b"RGB ", {b"wtpt": WHITE} | tables, b"Lab ")
    corners = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 255], [255, 255, 0]], np.uint8)[None]
    Image.fromarray(corners).save(tmp_path / "a.png", icc_profile=profile)
    linear = ((50 + 16) / 116) ** 3
    expected = np.array([0, 1, 1, 1]) * (1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(load(tmp_path / "a.png")[0], grey(expected), atol=2 / 255)


def ink_table() -> bytes:
    """A lut16Type from CMYK to CIELAB: cyan is a middle grey, black is black, the other inks have no effect."""
    sides = bytes((4, 3, 2, 0)) + struct.pack(">9i", *np.eye(3, dtype=int).ravel() * 65536) + struct.pack(">HH", 2, 2)
    paper, grey, black = (struct.pack(">3H", round(level * 652.8), 0x8000, 0x8000) for level in (100, 50, 0))
    inputs, outputs = (struct.pack(f">{2 * channels}H", *(0, 65535) * channels) for channels in (4, 3))
    return b"mft2\0\0\0\0" + sides + inputs + (paper + black) * 4 + (grey + black) * 4 + outputs


@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_cmyk_profiles(name: str, tmp_path: Path):
    profile = icc(b"CMYK", {b"wtpt": WHITE, b"A2B0": ink_table()}, b"Lab ")
    image = Image.new("CMYK", (48, 16), (0, 30, 90, 0))
    image.paste((255, 200, 10, 0), (16, 0, 32, 16))
    image.paste((0, 90, 10, 255), (32, 0, 48, 16))
    image.save(tmp_path / name, icc_profile=profile, quality=100)
    linear = ((50 + 16) / 116) ** 3
    expected = np.repeat([1, 1.055 * linear ** (1 / 2.4) - 0.055, 0], 16)
    np.testing.assert_allclose(load(tmp_path / name), np.repeat(grey(expected)[None], 16, 0), rtol=0, atol=2 / 255)
