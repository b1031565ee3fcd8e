"""Unusual images are read exactly, files that claim more than they contain are refused, and memory stays bounded."""

import io
import socket
import struct
import zlib
from pathlib import Path

import mutated_images_seeds as seeds
import numpy as np
import odd_images
import png
import pytest
from mutated_images import SPARE, memory, peak
from mutated_images_changes import SIGNATURE
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from jnst.apps.io import image_size, load_image
from jnst.errors import ImageError

TIFFS = odd_images.tiffs()
RGB = seeds.RGB / 255


@pytest.mark.parametrize("name", TIFFS)
def test_tiff(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever limit is set for Pillow."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 99)
    data, expected = TIFFS[name]
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    actual = np.asarray(load_image(path))
    np.testing.assert_allclose(actual, np.broadcast_to(expected, actual.shape), rtol=0, atol=1e-7)
    assert image_size(path) == (odd_images.HEIGHT, odd_images.WIDTH)


DEEP_PNGS = [name for name in seeds.seeds() if name.startswith("PNG/") and name.split("-int")[0][-2:] == "16"]


@pytest.mark.parametrize("name", [*DEEP_PNGS, "PNG/interlaced"])
def test_png_equals_pypng(name: str, tmp_path: Path):
    """With every filter, plain and interlaced. Without profiles and colour keys, which pypng does not apply."""
    data = seeds.seeds()[name]
    layout = [data[start:end] for start, end in chunks(data) if data[start + 4 : start + 8] not in (b"iCCP", b"tRNS")]
    path = tmp_path / "a.png"
    path.write_bytes(data[:8] + b"".join(layout))
    width, height, rows, info = png.Reader(bytes=path.read_bytes()).read()
    whole = 2 ** info["bitdepth"] - 1
    values = np.stack([np.asarray(row) for row in rows]).reshape(height, width, -1) / whole
    if info["alpha"]:
        values = values[..., :-1] * values[..., -1:] + 0.25 * (1 - values[..., -1:])
    actual = load_image(path, background=(0.25, 0.25, 0.25))
    np.testing.assert_allclose(actual, np.broadcast_to(values, (height, width, 3)), rtol=0, atol=2e-7)


def chunks(data: bytes) -> list[tuple[int, int]]:
    found, start = [], 8
    while start < len(data):
        end = start + 12 + struct.unpack_from(">I", data, start)[0]
        found.append((start, end))
        start = end
    return found


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM"])
def test_smallest_and_narrowest(kind: str, tmp_path: Path):
    path = tmp_path / "a"
    Image.new("RGB", (1, 1), (51, 51, 51)).save(path, kind)
    np.testing.assert_allclose(load_image(path), np.full((1, 1, 3), 0.2), atol=1 / 255)
    np.testing.assert_allclose(load_image(path, 5), np.full((5, 5, 3), 0.2), atol=1 / 255)
    Image.new("RGB", (7, 4001), (51, 51, 51)).save(path, kind)
    assert load_image(path).shape == (4001, 7, 3)
    assert load_image(path, 512).shape == (512, 1, 3)
    assert load_image(path, 4002, rounding="floor").shape == (4002, 7, 3)


def test_orientation_as_written_by_other_programs(tmp_path: Path):
    path, turned = tmp_path / "a.png", np.rot90(RGB, -1)
    text = PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n99\n" + seeds.exif(6).tobytes().hex(), zip=True)
    Image.fromarray(seeds.RGB).save(path, pnginfo=text)
    np.testing.assert_allclose(load_image(path), turned, atol=1e-7)
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="6"/>')
    Image.fromarray(seeds.RGB).save(path, pnginfo=text)
    np.testing.assert_allclose(load_image(path), turned, atol=1e-7)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_invalid_orientation_is_ignored(value: int, tmp_path: Path):
    exif = Image.Exif()
    exif[seeds.ORIENTATION] = value
    Image.fromarray(seeds.RGB).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_allclose(load_image(tmp_path / "a.png"), RGB, atol=1e-7)


def test_a_png_with_a_damaged_animation_is_read(tmp_path: Path):
    path = tmp_path / "a.png"
    data = seeds.saved(Image.fromarray(seeds.RGB), "PNG", save_all=True, append_images=seeds.frames())
    at = data.index(b"acTL")
    path.write_bytes(data[: at - 4] + seeds.png_chunk(b"acTL", bytes(8)) + data[at + 16 :])
    np.testing.assert_allclose(load_image(path), RGB, atol=1e-7)


def plain_png(height: int, rows: bytes, colour: int = 2) -> bytes:
    head = seeds.png_chunk(b"IHDR", struct.pack(">IIBBBBB", 3, height, 8, colour, 0, 0, 0))
    body = seeds.png_chunk(b"IDAT", zlib.compress(rows)) + seeds.png_chunk(b"IEND", b"")
    return SIGNATURE + head + body


def test_missing_rows_are_not_black(tmp_path: Path):
    path, row = tmp_path / "a.png", b"\0" + b"\x33" * 9
    path.write_bytes(plain_png(5, 5 * row))
    np.testing.assert_allclose(load_image(path), np.full((5, 3, 3), 0.2), atol=1e-7)
    path.write_bytes(plain_png(5, 6 * row))
    assert load_image(path).shape == (5, 3, 3)
    for rows in (4 * row, 5 * row[:-1]):
        path.write_bytes(plain_png(5, rows))
        with pytest.raises(ImageError, match=r"a\.png.*cannot be decoded"):
            load_image(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({277: 17}, "17 samples"),
        ({258: [16, 8, 8], 339: [1] * 3}, "samples of"),
        ({322: 60000, 323: 60000}, "60000x60000"),
        ({322: 16, 323: 1 << 20, 324: 9, 325: 9}, "strips or tiles are missing"),
        ({279: 0}, "strips or tiles are missing"),
        ({278: 1}, "strips or tiles are missing"),
        ({273: 10**9}, "cannot be decoded"),
    ],
)
def test_contradictory_tiffs_are_refused(changes: dict, message: str, tmp_path: Path):
    data = odd_images.tiff(odd_images.layout(16, 8) | changes, [zlib.compress(odd_images.DEEP.tobytes())])
    path = tmp_path / "a.tif"
    if 273 in changes:
        at = data.index(struct.pack("<HHI", 273, 3, 1))
        data = data[: at + 2] + struct.pack("<HII", 4, 1, changes[273]) + data[at + 12 :]
    path.write_bytes(data)
    with pytest.raises(ImageError, match=rf"a\.tif.*{message}") as caught:
        load_image(path)
    assert caught.value.exit_code == 3


def test_a_tiff_with_a_larger_jpeg_inside_is_refused(tmp_path: Path):
    """Without allocating memory for it: some decoders trust the size inside the JPEG data."""
    buffer = io.BytesIO()
    Image.fromarray(odd_images.RGB).save(buffer, "TIFF", compression="jpeg")
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 60000, 60000)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageError, match=r"a\.tif.*cannot be decoded.*size"):
        load_image(tmp_path / "a.tif")


def test_a_tiff_with_a_damaged_tag_is_refused(tmp_path: Path):
    """The damaged tag may say how to decode: here, that the samples are floats."""
    half = odd_images.FLOATS.astype(np.float16)
    data = odd_images.tiff(odd_images.layout(16, 1) | {339: [3] * 3}, [half.tobytes()])
    at = data.index(struct.pack("<HHI", 339, 3, 3))
    (tmp_path / "a.tif").write_bytes(data[: at + 8] + struct.pack("<I", 10**9) + data[at + 12 :])
    with pytest.raises(ImageError, match=r"a\.tif.*damaged tags"):
        load_image(tmp_path / "a.tif")


def test_a_gif_frame_beyond_its_screen_is_refused(tmp_path: Path):
    path = tmp_path / "a.gif"
    frame = b"," + struct.pack("<HHHHB", 65000, 65000, 99, 99, 0)
    path.write_bytes(b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b"!\xfe\x03abc\0" + frame + b"\2\0;")
    for read in (load_image, image_size):
        with pytest.raises(ImageError, match=r"a\.gif. claims too many pixels"):
            read(path)


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("a.png")
        with pytest.raises(ImageError, match="pipe, socket or device"):
            load_image("a.png")


def large_png(width: int, height: int) -> bytes:
    packer = zlib.compressobj(1)
    row = b"\0" + b"\x33\x66\x99" * width
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = seeds.png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return SIGNATURE + head + seeds.png_chunk(b"IDAT", body) + seeds.png_chunk(b"IEND", b"")


def large_tiff(width: int, height: int) -> bytes:
    strip = zlib.compress(b"\x33\x66\x99" * (width * 100), 1)
    tags = odd_images.layout(8, 8) | {256: width, 257: height, 278: 100}
    return odd_images.tiff(tags, [strip] * (height // 100))


def large_jpeg(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (51, 102, 153)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory with Linux's /proc")
@pytest.mark.parametrize(("make", "bytes_per_pixel"), [(large_png, 8), (large_tiff, 8), (large_jpeg, 1)])
def test_a_large_image_is_reduced_in_bounded_memory(make, bytes_per_pixel: int, tmp_path: Path):
    path = tmp_path / "large"
    path.write_bytes(make(12000, 9000))
    load_image(path, 8)
    before = memory()
    image = load_image(path, 300)
    assert peak() - before < SPARE + bytes_per_pixel * 12000 * 9000
    np.testing.assert_allclose(image, np.broadcast_to([0.2, 0.4, 0.6], (225, 300, 3)), atol=2 / 255)
