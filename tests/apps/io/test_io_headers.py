"""Reading sizes from headers without decoding, and finding the images in a folder."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from image_files import DEEP, FLOATS, ORIENTATION, RGB, chunk, png, png16
from PIL import Image

from jnst.apps.io import find_images, image_size, load_image
from jnst.apps.io.load import SUFFIXES
from jnst.errors import ImageError

HEIGHT, WIDTH = RGB.shape[:2]


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
@pytest.mark.parametrize("name", ["a.png", "late.png", "a.webp", "a.jpg", "a.tif", "deep.png", "deep.tif", "float.tif"])
def test_the_size_is_that_of_the_loaded_image(name: str, orientation: int, tmp_path: Path):
    exif, path = exif_of(orientation), tmp_path / name
    tag = [(ORIENTATION, "H", 1, orientation, True)]
    if name == "late.png":
        whole = png(WIDTH, HEIGHT, 8, 2, b"".join(b"\0" + row.tobytes() for row in RGB))
        path.write_bytes(whole[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + whole[-12:])
    elif name == "deep.png":
        path.write_bytes(png16(DEEP[..., :3], 2, chunk(b"eXIf", exif.tobytes()[6:])))
    elif name == "deep.tif":
        tifffile.imwrite(path, DEEP[..., :3], photometric="rgb", extratags=tag)
    elif name == "float.tif":
        tifffile.imwrite(path, FLOATS[..., :3], photometric="rgb", extratags=tag)
    else:
        Image.fromarray(RGB).save(path, exif=exif)
    assert image_size(path) == ((HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT))
    assert image_size(path) == load_image(path).shape[:2]


XMP = b'XML:com.adobe.xmp\0\0\0\0\0<rdf:Description tiff:Orientation="6"/>'


@pytest.mark.parametrize(
    ("behind", "is_turned"),
    [
        (chunk(b"eXIf", exif_of(6).tobytes()[6:]), True),
        (chunk(b"iTXt", XMP), True),
        (chunk(b"eXIf", exif_of(6).tobytes()[6:]) + chunk(b"eXIf", exif_of(3).tobytes()[6:]), False),
        (chunk(b"IEND", b"") + chunk(b"eXIf", exif_of(6).tobytes()[6:]), False),
        (chunk(b"eXIf", b"no TIFF header"), False),
    ],
    ids=["exif", "xmp", "last of two", "after the end", "damaged"],
)
@pytest.mark.filterwarnings("ignore:.*EXIF data is damaged")
def test_metadata_after_the_pixels_of_a_png(behind: bytes, is_turned: bool, tmp_path: Path):
    whole, path = png(WIDTH, HEIGHT, 8, 2, b"".join(b"\0" + row.tobytes() for row in RGB)), tmp_path / "a.png"
    path.write_bytes(whole[:-12] + behind + whole[-12:])
    assert image_size(path) == load_image(path).shape[:2] == ((WIDTH, HEIGHT) if is_turned else (HEIGHT, WIDTH))


@pytest.mark.parametrize("name", ["a.gif", "a.bmp", "a.ppm", "a.webp"])
def test_sizes_of_formats_without_exif(name: str, tmp_path: Path):
    Image.fromarray(RGB).save(tmp_path / name)
    assert image_size(tmp_path / name) == (HEIGHT, WIDTH)


def test_pixels_are_not_needed(tmp_path: Path):
    path = tmp_path / "half.png"
    Image.fromarray(np.tile(RGB, (20, 20, 1))).save(path)
    path.write_bytes(path.read_bytes()[:200])
    assert image_size(path) == (20 * HEIGHT, 20 * WIDTH)
    with pytest.raises(ImageError):
        load_image(path)


def test_damaged_exif_is_ignored(tmp_path: Path):
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=b"Exif\0\0garbage that is no TIFF header")
    assert image_size(tmp_path / "a.png") == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "no data"), (b"words", "text"), (b"\x89PNG\r\n\x1a\nxx", "cannot be decoded")]
)
def test_other_files_are_refused(content: bytes, message: str, tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"a\.png.*{message}"):
        image_size(path)
    with pytest.raises(ImageError, match="does not exist"):
        image_size(tmp_path / "none.png")


def test_a_header_that_claims_too_many_pixels_is_refused(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(png(60000, 60000, 8, 2, b""))
    with pytest.raises(ImageError, match="60000x60000"):
        image_size(path)


def test_images_are_found_by_their_suffixes(tmp_path: Path):
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.png", "c.webp"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    images, others = find_images(tmp_path)
    assert [path.name for path in images] == ["a.jpg", "b.PNG", "c.webp"]
    assert [path.name for path in others] == ["notes.txt"]
    assert {path.suffix.lower() for path in images} < set(SUFFIXES)
    with pytest.raises(ImageError, match="none"):
        find_images(tmp_path / "none")
