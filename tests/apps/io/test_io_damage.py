"""Other files, damaged images and hostile headers are refused in one line that names the file."""

import io
import os
import random
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import png
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import chunk
from PIL import Image

from jnst.apps.io import check_output, load_image
from jnst.errors import ImageError, JnstError

RNG = np.random.default_rng(11)
SMOOTH = (np.add.outer(np.arange(40), np.arange(50))[..., None] + RNG.integers(0, 60, (40, 50, 3))).astype(np.uint8)
NOBODY = 65534


def saved(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(SMOOTH).save(buffer, kind, **options)
    return buffer.getvalue()


def deep_tiff(**options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, SMOOTH.astype(np.uint16) * 257, photometric="rgb", **options)
    return buffer.getvalue()


def deep_png() -> bytes:
    buffer = io.BytesIO()
    png.from_array((SMOOTH.astype(np.uint16) * 257).reshape(40, -1), "RGB;16").write(buffer)
    return buffer.getvalue()


WHOLE = {
    "png": saved("PNG"),
    "jpeg": saved("JPEG"),
    "progressive jpeg": saved("JPEG", progressive=True),
    "webp": saved("WEBP"),
    "lossless webp": saved("WEBP", lossless=True),
    "tiff": saved("TIFF"),
    "deflated tiff": saved("TIFF", compression="tiff_adobe_deflate"),
    "gif": saved("GIF"),
    "bmp": saved("BMP"),
    "ppm": saved("PPM"),
    "deep png": deep_png(),
    "deep tiff": deep_tiff(),
    "deep deflated tiff": deep_tiff(compression="zlib"),
}


def read(path: Path) -> np.ndarray | str:
    """The pixels of a file; or the error message without the name, if it is refused."""
    try:
        return np.asarray(load_image(path))
    except ImageError as error:
        message = str(error)
    assert repr(str(path)) in message
    assert "\n" not in message
    return message.replace(repr(str(path)), "")


def refusal(path: Path) -> str:
    """The error message for a file without the name; empty if it is read."""
    found = read(path)
    return found if isinstance(found, str) else ""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", WHOLE)
def test_truncated_at_every_twentieth(kind: str, tmp_path: Path):
    path, data = tmp_path / "cut", WHOLE[kind]
    path.write_bytes(data)
    whole = np.asarray(load_image(path))
    cuts = [len(data) * part // 20 for part in range(20)] + [len(data) - 1]
    survived = 0
    for cut in cuts:
        path.write_bytes(data[:cut])
        found = read(path)
        if not isinstance(found, str):
            survived += 1
            np.testing.assert_array_equal(found, whole, err_msg=f"{cut} of {len(data)} bytes")
    assert survived <= 2  # only bytes after the pixels can be missing


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(sorted(WHOLE)), seed=st.integers(0, 2**32), flips=st.integers(1, 12))
def test_damaged_bytes_raise_no_other_exception(kind: str, seed: int, flips: int):
    data, rng = bytearray(WHOLE[kind]), random.Random(seed)
    for _ in range(flips):
        spread = rng.choice((32, 200, len(data)))  # in headers more often than in pixels
        data[rng.randrange(min(spread, len(data)))] = rng.randrange(256)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flipped"
        path.write_bytes(data)
        found = read(path)
    assert isinstance(found, str) or (found.shape[-1] == 3 and bool(((found >= 0) & (found <= 1)).all()))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "no data"),
        (b"just some words\nof text\n", "text"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS"),
        (b"\xc5\xd0\xd3\xc6" + bytes(40), "EPS"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\n<!DOCTYPE html><title>404</title>", "HTML"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"\0\0\0\x0cJXL " + bytes(16), "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\x80\x81\x82\x83" + bytes(60), "80 81 82 83"),
    ],
)
def test_other_content_is_described(content: bytes, kind: str, tmp_path: Path):
    path = tmp_path / "disguised.png"
    path.write_bytes(content)
    said = refusal(path)
    assert kind in said
    assert "PNG, JPEG, WebP, TIFF, GIF, BMP, PPM" in said


def ihdr(width: int, height: int, depth: int = 8) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))


SIDE = 60000
IDAT = chunk(b"IDAT", zlib.compress(b""))
GIF_FRAME = b"," + struct.pack("<HHHHB", 0, 0, SIDE, SIDE, 0) + b"\2"
BMP_HEADER = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 24, 0, 0, 0, 0, 0, 0)
JPEG_FRAME = struct.pack(">HBHHB", 17, 8, SIDE, SIDE, 3) + bytes((1, 34, 0, 2, 17, 1, 3, 17, 1))
HUGE = {
    "png": ihdr(SIDE, SIDE) + IDAT,
    "deep png": ihdr(SIDE, SIDE, 16) + IDAT,
    "gif": b"GIF89a" + struct.pack("<HHBBB", SIDE, SIDE, 0, 0, 0) + GIF_FRAME,
    "bmp": b"BM" + struct.pack("<IHHI", 99, 0, 0, 54) + BMP_HEADER,
    "ppm": b"P6 60000 60000 255\n" + bytes(30),
    "jpeg": b"\xff\xd8\xff\xc0" + JPEG_FRAME + b"\xff\xda\0\2",
    "webp": b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\x5f\xea\0\x5f\xea\0",
}


@pytest.mark.parametrize("kind", HUGE)
def test_a_header_of_3600_megapixels_is_refused(kind: str, tmp_path: Path):
    path = tmp_path / "bomb"
    path.write_bytes(HUGE[kind])
    assert "60000x60000" in refusal(path) or (kind == "webp" and refusal(path))  # by libwebp, in other words


def tiff_header(width: int, height: int, depth: int) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, depth), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    tags += [(278, 4, height), (279, 4, 100)]
    entries = b"".join(struct.pack("<HHII", code, kind, 1, value) for code, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(104)


@pytest.mark.parametrize("depth", [8, 16, 32])
def test_a_tiff_of_3600_megapixels_is_refused(depth: int, tmp_path: Path):
    path = tmp_path / "bomb.tif"
    path.write_bytes(tiff_header(60000, 60000, depth))
    said = refusal(path)
    assert "60000x60000" in said
    assert "175 megapixels" in said


EMPTY = [
    (ihdr(0, 5) + IDAT, "cannot be decoded"),
    (ihdr(5, 0, 16) + IDAT, "cannot be decoded"),
    (tiff_header(0, 5, 8), "claims 0x5 pixels"),
    (tiff_header(5, 0, 16), "claims 5x0 pixels"),
]


@pytest.mark.parametrize(("data", "message"), EMPTY)
def test_an_image_without_pixels_is_refused(data: bytes, message: str, tmp_path: Path):
    path = tmp_path / "nothing"
    path.write_bytes(data)
    assert message in refusal(path)


def test_what_is_not_a_regular_file_is_refused(tmp_path: Path):
    assert "is a directory" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "missing.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert "pipe, socket or device" in refusal(tmp_path / "pipe.png")
    assert "pipe, socket or device" in refusal(Path("/dev/null"))
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert "cannot be read" in refusal(tmp_path / "loop.png")
    assert "cannot be read" in refusal(tmp_path / ("n" * 300))
    with pytest.raises(ImageError, match="not a file name"):
        load_image("a\0b.png")


@contextmanager
def unprivileged() -> Iterator[None]:
    """Act as a user who is subject to file permissions."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_unreadable_file():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "secret.png"
        path.write_bytes(WHOLE["png"])
        path.chmod(0)
        with unprivileged():
            assert "cannot be read (Permission denied)" in refusal(path)


def test_read_only_folder():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        with unprivileged(), pytest.raises(JnstError, match=r"cannot be written to \(Permission denied\)"):
            check_output(os.path.join(folder, "a.png"))
        os.chmod(folder, 0o755)


def test_write_protected_file():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        path = Path(folder) / "kept.png"
        path.write_bytes(WHOLE["png"])
        path.chmod(0o444)
        with unprivileged(), pytest.raises(JnstError, match=r"kept\.png' is write-protected"):
            check_output(path)


def test_running_out_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_):
        raise MemoryError

    (tmp_path / "a.png").write_bytes(WHOLE["png"])
    monkeypatch.setattr(Image.Image, "convert", fail)
    monkeypatch.setattr(Image.Image, "resize", fail)
    with pytest.raises(ImageError, match=r"a\.png.*needs more memory"):
        load_image(tmp_path / "a.png", 10)
