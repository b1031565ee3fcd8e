"""Writing images: exact levels, atomic replacement, and checks before the work is done."""

import errno
import os
import stat
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from jnst.apps.io import check_output, load_image, save_image
from jnst.errors import ArgumentError, ImageError, JnstError, ResourceError
from jnst.weights.files import write_atomically

GREY = np.full((4, 6, 3), 0.5, np.float32)
images = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=9).map(lambda shape: (*shape, 3)),
    elements=st.floats(-0.5, 1.5, width=32),
)


@settings(max_examples=50, deadline=None)
@given(images)
def test_8_bits_are_rounded_to_nearest(image: np.ndarray):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.png")
        save_image(path, image)
        loaded = np.asarray(load_image(path), np.float64) * 255
    ideal = np.clip(image.astype(np.float64), 0, 1) * 255
    np.testing.assert_allclose(loaded, np.round(loaded), atol=1e-4)
    assert (abs(loaded - ideal) <= 0.5 + 1e-4).all()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".PNG"])
def test_16_bit_round_trip_is_exact(suffix: str, tmp_path: Path):
    levels = np.random.default_rng(3).integers(0, 65536, (17, 11, 3))
    levels[0, 0] = 0, 65535, 32768
    path = tmp_path / f"deep{suffix}"
    save_image(path, (levels / 65535).astype(np.float32), bit_depth=16)
    np.testing.assert_allclose(np.asarray(load_image(path), np.float64) * 65535, levels, rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.png", {}, 0),
        ("a.tif", {}, 0),
        ("a.TIFF", {}, 0),
        ("a.jpg", {"quality": 100}, 3),
        ("a.jpeg", {}, 8),
        ("a.webp", {}, 8),
    ],
)
def test_the_suffix_selects_the_format(name: str, options: dict, tolerance: int, tmp_path: Path):
    y, x = np.mgrid[:32, :48]
    levels = np.dstack([x * 4 + 20, y * 5 + 30, x + y + 60])
    save_image(tmp_path / name, jnp.asarray(levels / 255, jnp.float32), **options)
    with Image.open(tmp_path / name) as image:
        kind = {".jpg": "JPEG", ".tif": "TIFF"}.get(Path(name).suffix.lower(), Path(name).suffix[1:].upper())
        assert image.format == kind
        assert image.mode == "RGB"
        assert not image.getexif() or kind == "TIFF"  # which for TIFF includes its own tags
        assert "icc_profile" not in image.info
        assert abs(np.asarray(image, int) - levels).max() <= tolerance


def test_lower_quality_makes_smaller_files(tmp_path: Path):
    noise = np.random.default_rng(5).uniform(size=(64, 64, 3)).astype(np.float32)
    for suffix in ("jpg", "webp"):
        for quality in (10, 95):
            save_image(tmp_path / f"{quality}.{suffix}", noise, quality=quality)
        assert (tmp_path / f"10.{suffix}").stat().st_size < (tmp_path / f"95.{suffix}").stat().st_size / 2


def test_halves_round_up_and_other_floats_are_cast(tmp_path: Path):
    halves = np.array([0.5, 1.5, 2.5, 126.5, 127.5, 254.5]) / 255
    save_image(tmp_path / "a.png", np.broadcast_to(halves[None, :, None], (1, 6, 3)))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png"))[0, :, 0], [1, 2, 3, 127, 128, 255])
    save_image(tmp_path / "b.png", jnp.full((2, 2, 3), 0.25, jnp.bfloat16))
    assert (np.asarray(Image.open(tmp_path / "b.png")) == 64).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.where(np.arange(72).reshape(4, 6, 3) == 40, np.nan, GREY), r"NaN or infinite, the first at \(2, 1, 1\)"),
        (np.full((4, 6, 3), np.inf), "72 values that are NaN or infinite"),
        (GREY[None], r"shape \(1, 4, 6, 3\): expected \(h, w, 3\)"),
        (GREY.transpose(2, 0, 1), r"shape \(3, 4, 6\)"),
        (GREY[:0], r"shape \(0, 6, 3\)"),
        (np.full((4, 6, 3), 127, np.uint8), "uint8.*divide 0-255 by 255"),
        (np.zeros((2, 2, 3), complex), "complex"),
    ],
)
def test_wrong_images_are_refused(image: np.ndarray, message: str, tmp_path: Path):
    with pytest.raises(ImageError, match=message) as caught:
        save_image(tmp_path / "a.png", image)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.pgn", {}, r"did you mean '\.png'.*'\.jpg'"),
        ("a", {}, r"expected one of '\.png'"),
        ("a.gif", {}, "expected one of"),
        ("a.jpg", {"bit_depth": 16}, r"`bit_depth` is 16 .*16 for \.png, \.tif, \.tiff"),
        ("a.png", {"bit_depth": 12}, "`bit_depth` is 12"),
        ("a.jpg", {"quality": 0}, "`quality` is 0"),
        ("a.jpg", {"quality": 101}, "`quality` is 101"),
    ],
)
def test_wrong_arguments(name: str, options: dict, message: str, tmp_path: Path):
    with pytest.raises(JnstError, match=message):
        save_image(tmp_path / name, GREY, **options)
    assert not list(tmp_path.iterdir())


def test_an_image_too_large_for_the_format_is_refused(tmp_path: Path):
    with pytest.raises(ImageError, match="20000x1 pixels do not fit WEBP"):
        save_image(tmp_path / "a.webp", np.zeros((1, 20000, 3), np.float32))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, ResourceError), (errno.EIO, ArgumentError)])
def test_a_failed_write_keeps_the_old_file(function, number, kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "old.png"
    path.write_bytes(b"old content")
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(kind, match=r"old\.png.*could not be written \(" + os.strerror(number)) as caught:
        save_image(path, GREY)
    assert type(caught.value) is kind
    assert path.read_bytes() == b"old content"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    path = tmp_path / "old.bin"
    path.write_bytes(b"old content")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new content")
    assert path.read_bytes() == b"old content"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_content_is_kept_until_the_new_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    sync = os.fsync

    def watch(descriptor: int) -> None:
        sync(descriptor)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):  # not the folder
            seen.append((path.read_bytes(), os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fsync", watch)
    write_atomically(path, b"newer")
    assert seen == [(b"old", 5)]
    assert path.read_bytes() == b"newer"


def test_permissions_links_and_names(tmp_path: Path):
    before = os.umask(0o027)
    try:
        save_image(tmp_path / "new.png", GREY)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.png").stat().st_mode) == 0o640
    (tmp_path / "new.png").chmod(0o604)
    (tmp_path / "link.png").symlink_to("new.png")
    save_image(tmp_path / "link.png", GREY * 0)
    assert (tmp_path / "link.png").is_symlink()
    assert stat.S_IMODE((tmp_path / "new.png").stat().st_mode) == 0o604
    assert not np.asarray(load_image(tmp_path / "new.png")).any()
    longest = tmp_path / ("n" * 251 + ".png")
    save_image(longest, GREY)
    save_image(os.fsencode(tmp_path) + b"/\xff.png", GREY)
    assert len(list(tmp_path.iterdir())) == 4


def test_check_output(tmp_path: Path):
    given_, missing = tmp_path / "given.png", tmp_path / "missing.jpg"
    save_image(given_, GREY)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "alias.png").hardlink_to(given_)
    os.mkfifo(tmp_path / "pipe.png")
    for path, message in [
        (tmp_path / "nowhere" / "a.png", "nowhere.*cannot be written to"),
        (given_ / "a.png", "cannot be written to"),
        (tmp_path / "nul\0.png", "null (byte|character)"),
        (tmp_path / "folder.png", "is a directory"),
        (tmp_path / "pipe.png", "not a regular file"),
        (tmp_path / "a.bmp", "expected one of"),
        (tmp_path / "alias.png", "also the input"),
        (tmp_path / "." / "given.png", "also the input"),
    ]:
        with pytest.raises(JnstError, match=message) as caught:
            check_output(path, inputs=[missing, given_])
        assert "\n" not in str(caught.value)
    for name, side in (("a.webp", 16383), ("a.jpg", 65500)):
        check_output(tmp_path / name, side=side)
        with pytest.raises(JnstError, match=f"at most {side}: use PNG or TIFF"):
            check_output(tmp_path / name, side=side + 1)
    before = set(tmp_path.iterdir())
    check_output(given_, inputs=[given_], force=True)
    check_output(tmp_path / "new.png", inputs=[given_, missing])
    check_output(missing, inputs=[missing])
    assert set(tmp_path.iterdir()) == before


def test_a_pipe_is_not_replaced(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(JnstError, match="not a regular file"):
        save_image(tmp_path / "pipe.png", GREY)
    assert stat.S_ISFIFO((tmp_path / "pipe.png").stat().st_mode)
