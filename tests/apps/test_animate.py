"""Intermediate images and films, from reports of runs that never happened."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from made_reports import report
from PIL import Image, ImageSequence

import jnst.apps.animate
from jnst.apps.animate import LAST_MS, MAX_FRAMES, Film, Snapshots
from jnst.errors import ImageError, JnstError, ResourceError

LAST = jnp.full((12, 16, 3), 1.0)


def frames_of(path: Path) -> list[tuple[float, int, tuple[int, int]]]:
    """The mean brightness in [0, 1], the milliseconds and the size of each frame."""
    with Image.open(path) as film:
        assert film.info["loop"] == 0 or getattr(film, "n_frames", 1) == 1
        return [
            (float(np.asarray(frame.convert("RGB")).mean() / 255), frame.info["duration"], frame.size)
            for frame in ImageSequence.Iterator(film)
        ]


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".GIF"])
def test_a_film_has_the_first_frame_every_nth_and_the_last_for_longer(tmp_path: Path, suffix: str):
    film = Film(10)
    for step in range(1, 51):
        film(report(step, 50))
    path = tmp_path / f"film{suffix}"
    assert film.save(path, LAST) == 6
    frames = frames_of(path)
    assert [brightness for brightness, _, _ in frames] == pytest.approx([0.02, 0.2, 0.4, 0.6, 0.8, 1.0], abs=0.02)
    assert [milliseconds for _, milliseconds, _ in frames] == [80] * 5 + [LAST_MS]
    assert {size for _, _, size in frames} == {(16, 12)}


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_frames_of_smaller_sizes_are_enlarged(tmp_path: Path, suffix: str):
    halves = np.concatenate([np.full((6, 4, 3), 0.2), np.full((6, 4, 3), 0.8)], axis=1).astype(np.float32)
    film = Film(1)
    film(report(1, 3, image=halves))
    film(report(2, 3))
    film.save(tmp_path / f"film{suffix}", LAST)
    with Image.open(tmp_path / f"film{suffix}") as made:
        first = np.asarray(made.convert("RGB")) / 255
    assert first.shape == (12, 16, 3)
    assert first[:, :6].mean() == pytest.approx(0.2, abs=0.03)
    assert first[:, 10:].mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("num_steps", "frames"), [(1, 1), (10, 10), (48, 48), (100, 35), (480, 49), (961, 47)])
def test_a_film_has_about_48_frames_by_default(tmp_path: Path, num_steps: int, frames: int):
    film = Film()
    for step in range(1, num_steps + 1):
        film(report(step, num_steps))
    assert film.save(tmp_path / "film.webp", 0 * LAST) == frames
    assert len(frames_of(tmp_path / "film.webp")) == frames


def test_a_long_film_is_thinned_evenly(tmp_path: Path):
    film = Film(1)
    for step in range(1, 401):
        film(report(step, 400))
    count = film.save(tmp_path / "film.webp", LAST)
    assert MAX_FRAMES // 2 <= count <= MAX_FRAMES
    brightness = np.asarray([brightness for brightness, _, _ in frames_of(tmp_path / "film.webp")])
    assert len(brightness) == count
    np.testing.assert_allclose(brightness, np.append(np.arange(1, 400, 8), 400) / 400, atol=0.02)


def test_chunks_of_many_steps_give_one_frame_each(tmp_path: Path):
    film = Film(10)
    for first in range(1, 101, 25):
        film(report(first, 100, np.ones(25)))
    assert film.save(tmp_path / "film.gif", LAST) == 4


def test_equal_frames_become_one(tmp_path: Path):
    film = Film(1)
    for step in (1, 2):
        film(report(step, 3, image=np.ones((12, 16, 3), np.float32)))
    assert film.save(tmp_path / "film.gif", LAST) == 1


def test_a_film_without_steps_is_an_image(tmp_path: Path):
    assert Film().save(tmp_path / "film.gif", LAST) == 1
    with Image.open(tmp_path / "film.gif") as film:
        assert film.size == (16, 12)


def test_an_old_film_is_intact_if_the_new_one_cannot_be_written(tmp_path: Path, monkeypatch):
    path = tmp_path / "film.gif"
    path.write_bytes(b"old")

    def full(path: object, data: bytes) -> None:
        raise ResourceError("the disk is full")

    monkeypatch.setattr(jnst.apps.animate, "write_atomically", full)
    with pytest.raises(ResourceError):
        Film().save(path, LAST)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_images_too_large_for_webp_are_refused(tmp_path: Path):
    with pytest.raises(ImageError, match=r"16400x2 pixels do not fit WEBP.*smaller size"):
        Film().save(tmp_path / "film.webp", jnp.zeros((2, 16400, 3)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["film.mp4", "film", "film.png"])
def test_unknown_suffixes_are_refused_with_the_known_ones(tmp_path: Path, name: str):
    with pytest.raises(JnstError, match=r"film.*expected one of \.webp, \.gif"):
        Film().save(tmp_path / name, LAST)


@pytest.mark.parametrize("every", [0, -3])
def test_less_than_one_step_is_refused(every: int):
    for make in (lambda: Film(every), lambda: Snapshots("out.png", every)):
        with pytest.raises(JnstError, match=rf"every {every} steps: expected at least 1"):
            make()


def test_snapshots_are_numbered_with_the_digits_of_the_run(tmp_path: Path):
    save = Snapshots(tmp_path / "a.b.tif", 300, bit_depth=16)
    for step in range(1, 1001):
        save(report(step, 1000))
    names = [f"a.b-{number}.tif" for number in ("0300", "0600", "0900")]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    saved = np.asarray(jnst.load_image(tmp_path / names[1]))
    np.testing.assert_allclose(saved, 0.6, atol=0.6 / 65535)


def test_snapshots_of_chunks_are_named_after_the_step_that_they_show(tmp_path: Path):
    save = Snapshots(tmp_path / "out.png", 10)
    for first in range(1, 100, 25):
        save(report(first, 99, np.ones(25 if first < 76 else 24), image=np.full((2, 2, 3), 0.5, np.float32)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"out-{n}.png" for n in (25, 50, 75, 99)]
