"""AVIF and HEIC, a PNG's gamma, transparency that is kept, open files, and names that are no files."""

import io
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import chunk
from PIL import Image, features

from jnst.apps.io import encode_image, image_size, load_alpha, load_image
from jnst.errors import ArgumentError, ImageError

RAMP = np.linspace(0, 255, 40 * 24 * 3).reshape(24, 40, 3).astype(np.uint8)
NEEDS_AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")


def rotated(image: Image.Image) -> bytes:
    """EXIF data that says that an image lies on its side."""
    exif = Image.Exif()
    exif[0x112] = 6
    return exif.tobytes()


def save_heic(image: Image.Image, path: Path, **options: Any) -> None:
    heif = pytest.importorskip("pillow_heif")
    file = heif.from_pillow(image)
    file.info.update(options)
    file.save(path, quality=95)


@pytest.mark.parametrize("kind", [pytest.param("avif", marks=NEEDS_AVIF), "heic"])
def test_avif_and_heic_are_read_upright(kind: str, tmp_path: Path) -> None:
    path, image = tmp_path / "image.jpg", Image.fromarray(RAMP)  # the content decides, not the name
    if kind == "heic":
        save_heic(image, path, exif=rotated(image))
    else:
        image.save(path, "AVIF", quality=95, exif=rotated(image))
    assert image_size(path) == (40, 24)
    np.testing.assert_allclose(load_image(path), np.rot90(RAMP, -1) / 255, atol=0.04)


@NEEDS_AVIF
def test_transparent_avif_is_composited(tmp_path: Path) -> None:
    image = Image.fromarray(np.dstack([RAMP, np.full((24, 40), 0, np.uint8)]))
    image.save(tmp_path / "image.avif", quality=95)
    np.testing.assert_allclose(
        load_image(tmp_path / "image.avif", background=(0.0, 1.0, 0.5))[3, 3], (0, 1, 0.5), atol=0.02
    )


def test_heic_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.heic"
    path.write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(40))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"image.heic': HEIC needs another package: pip install 'jnst\[heif\]'"):
        load_image(path)


def with_chunks(levels: np.ndarray, *chunks: bytes) -> bytes:
    """A PNG with further chunks after its header."""
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    return buffer.getvalue()[:33] + b"".join(chunks) + buffer.getvalue()[33:]


def gamma(value: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(1e5 * value)))


def srgb(light: np.ndarray) -> np.ndarray:
    """The equation of IEC 61966-2-1."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("exponent", [1.0, 0.7, 0.55556])
@pytest.mark.parametrize("kind", ["RGB", "grey", "RGBA", "16 bits"])
def test_the_gamma_of_a_png_is_applied(exponent: float, kind: str, tmp_path: Path) -> None:
    expected, atol = srgb((RAMP / 255) ** (1 / exponent)), 0.5 / 255 + 1e-6
    levels = {"RGB": RAMP, "grey": RAMP[..., 0], "RGBA": np.dstack([RAMP, np.full((24, 40), 255, np.uint8)])}
    path = tmp_path / "image.png"
    if kind == "16 bits":
        content = encode_image("image.png", RAMP / np.float32(255), bit_depth=16)
        path.write_bytes(content[:33] + gamma(exponent) + content[33:])
        atol = 1e-4
    else:
        path.write_bytes(with_chunks(levels[kind], gamma(exponent)))
    expected = expected[..., :1].repeat(3, -1) if kind == "grey" else expected
    np.testing.assert_allclose(load_image(path), expected, atol=atol)


@pytest.mark.parametrize(
    "chunks", [(gamma(1 / 2.2),), (gamma(0.46),), (gamma(1.0), chunk(b"sRGB", b"\0")), (gamma(0.0),)]
)
def test_gamma_has_no_effect_for_srgb(chunks: tuple[bytes, ...], tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(with_chunks(RAMP, *chunks))
    np.testing.assert_array_equal(load_image(path), RAMP / np.float32(255))


@pytest.mark.parametrize(("suffix", "depth"), [("png", 8), ("png", 16), ("tif", 8), ("tif", 16), ("webp", 8)])
def test_transparency_is_kept(suffix: str, depth: int, tmp_path: Path) -> None:
    alpha = np.linspace(0, 1, 24 * 40, dtype=np.float32).reshape(24, 40)
    path = tmp_path / f"image.{suffix}"
    path.write_bytes(encode_image(path, RAMP / np.float32(255), alpha=alpha, bit_depth=depth))
    found = load_alpha(path, (24, 40))
    assert found is not None
    np.testing.assert_allclose(found, alpha, atol=0.5 / (2**depth - 1) + 1e-6)
    black, white = (np.asarray(load_image(path, background=(value, value, value))) for value in (0.0, 1.0))
    np.testing.assert_allclose(white - black, np.broadcast_to(1 - alpha[..., None], white.shape), atol=1.1 / 255)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_opaque_images_have_no_alpha(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"image.{suffix}"
    alpha = np.full((24, 40), 1.0 if suffix == "png" else 0.5)
    path.write_bytes(encode_image(path, RAMP / np.float32(255), alpha=alpha))
    assert load_alpha(path, (24, 40)) is None


def test_open_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(RAMP).save(path)
    with path.open("rb") as file:
        np.testing.assert_array_equal(load_image(file), RAMP / np.float32(255))
    np.testing.assert_array_equal(load_image(io.BytesIO(path.read_bytes())), RAMP / np.float32(255))
    with pytest.raises(ImageError, match=r"^'<BytesIO>' contains no data"):
        load_image(io.BytesIO())
    with (
        path.open(encoding="latin-1") as text,
        pytest.raises(ArgumentError, match="reads text: open the file with mode 'rb'"),
    ):
        load_image(text)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="`path` is a ndarray: expected the name of an image file"):
        load_image(RAMP)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "address", ["https://example.org/a.png", "s3://bucket/a.png", "file:///a.png", "https:/a.org/b.png"]
)
def test_addresses_are_not_read(address: str) -> None:
    with pytest.raises(ImageError, match="is an address: addresses are not read, download it first"):
        load_image(address)


def test_lists_with_commas(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="separate several files by spaces, not by commas"):
        load_image(f"{tmp_path}/a.png,{tmp_path}/b.png")
    with pytest.raises(ImageError, match="check the name and the folder"):
        load_image(tmp_path / "x,y.png")
