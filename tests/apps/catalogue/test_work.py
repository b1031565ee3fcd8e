"""The work of a catalogue: planned tasks, blocks of limited memory, and images that are read once."""

import io
from pathlib import Path

import hypothesis
import hypothesis.strategies as some
import numpy as np
import pytest
from PIL import Image
from small_images import save

import jnst
from jnst.apps.catalogue import work
from jnst.apps.catalogue.entries import Entry
from jnst.apps.catalogue.work import Reader, Sizes, Source, Task, first_size, make_blocks, make_task
from jnst.apps.io.sizes import LoadOptions
from jnst.errors import ImageError
from jnst.presets import Preset
from jnst.transfer.target_store import TargetStore

FLAT = jnst.preset("jnst", pyramid=None, size=32, num_steps=(2,))
DEEP = jnst.preset("jnst", size=32, num_steps=(2,))


def entry(content: str = "c", style: str = "s", name: str = "x") -> Entry:
    return Entry(Path(content), (Path(style),), (), 0, name)


def sizes(path: Path) -> tuple[int, int]:
    known = {"c": (60, 80), "d": (300, 400), "e": (80, 60), "s": (100, 200)}
    if path.name not in known:
        raise ImageError(f"{path} is damaged")
    return known[path.name]


def task(content: str, style: str = "s", settings: Preset = FLAT, name: str = "x") -> Task:
    return make_task(entry(content, style, name), "", settings, sizes)


def test_a_task_states_what_it_reads():
    flat = task("d")
    assert flat.sources == (
        Source(Path("d"), LoadOptions(32, "bicubic", "round"), None, 12 * 24 * 32),
        Source(Path("s"), LoadOptions(32, "bicubic", "round"), None, 12 * 16 * 32),
    )
    deep = task("d", settings=DEEP)
    assert [source.bytes for source in deep.sources] == [12 * 96 * 128, 12 * 64 * 128]
    small = task("c", settings=jnst.preset(DEEP, style_scale=2.0))
    assert [source.bytes for source in small.sources] == [12 * 60 * 80, 12 * 100 * 200]


def test_damaged_headers_become_faults_of_tasks():
    for broken in (task("x"), task("c", "y")):
        assert broken.sources == ()
        assert "is damaged" in broken.fault


def test_programs_are_shared_by_shape_and_kind_of_optimiser():
    assert task("c").program == task("d").program
    assert task("c").program != task("e").program
    assert task("c").program == task("c", settings=jnst.preset(FLAT, style_weight=7.0)).program
    assert task("c").program == task("c", settings=jnst.preset(FLAT, learning_rate=0.5)).program
    assert task("c").program != task("c", settings=jnst.preset(FLAT, optimizer=jnst.Adam(2.0))).program
    assert task("c").program != task("c", settings=jnst.preset(FLAT, size=40)).program


@pytest.mark.parametrize("settings", [FLAT, DEEP])
@pytest.mark.parametrize("content", ["c", "d", "e"])
def test_contents_are_brought_to_the_shape_of_the_first(settings: Preset, content: str):
    framed = make_task(entry(content), "", settings, sizes, (60, 80))
    shape = framed.sources[0].shape
    assert shape is not None
    assert shape == ((24, 32) if settings is FLAT else (60, 80))
    assert framed.program == make_task(entry("c"), "", settings, sizes, (60, 80)).program
    height, width = sizes(Path(content))
    scale = framed.sources[0].options.size / max(height, width)
    assert height * scale >= shape[0] - 1
    assert width * scale >= shape[1] - 1


def test_neighbours_share_programs_and_then_contents():
    asked = [task(content, style) for style in ("s", "d") for content in ("c", "e", "d", "x")]
    places = [[(one.entry.content.name, one.entry.styles[0].name) for one in block] for block in make_blocks(asked)]
    assert places == [
        [("c", "s"), ("c", "d"), ("d", "s"), ("d", "d")],
        [("e", "s"), ("e", "d")],
        [("x", "s"), ("x", "d")],
    ]


def made(pixels: list[int]) -> list[Task]:
    """Tasks of one program; those of equal pixels share their content."""
    options = LoadOptions(1, "bicubic")
    return [
        Task(entry(str(size), name=str(place)), "", FLAT, (Source(Path(str(size)), options, None, size),), "", 0)
        for place, size in enumerate(pixels)
    ]


@hypothesis.given(some.lists(some.integers(1, 50), max_size=40), some.integers(1, 100), some.integers(1, 8))
def test_blocks_are_limited_and_contain_every_task(pixels: list[int], max_bytes: int, max_jobs: int):
    tasks = made(pixels)
    blocks = make_blocks(tasks, max_bytes, max_jobs)
    assert sorted(one.entry.file for block in blocks for one in block) == sorted(one.entry.file for one in tasks)
    for block in blocks:
        held = {source for one in block for source in one.sources}
        assert len(block) <= max_jobs
        assert sum(source.bytes for source in held) <= max_bytes or len(held) == 1


def test_headers_are_read_once(tmp_path: Path):
    path, known = save(tmp_path / "a.png", 0, 10, 8), Sizes()
    assert known(path) == (8, 10)
    path.unlink()
    assert known(path) == (8, 10)
    with pytest.raises(ImageError):
        known(tmp_path / "b.png")
    save(tmp_path / "b.png", 0)
    with pytest.raises(ImageError, match="does not exist"):
        known(tmp_path / "b.png")
    assert first_size([tmp_path / "b.png", path], known) == (8, 10)
    assert first_size([tmp_path / "b.png"], known) is None


def source(path: Path, shape: tuple[int, int] | None = None, size: int = 24) -> Source:
    return Source(path, LoadOptions(size, "bicubic"), shape, 0)


def test_images_are_read_once_as_long_as_they_fit(tmp_path: Path):
    first, second, third = (source(save(tmp_path / f"{seed}.png", seed)) for seed in range(3))
    size = 12 * 24 * 18
    reader = Reader("keep", 2 * size)
    image = reader(first)
    assert image.nbytes == size
    assert reader(first) is image
    np.testing.assert_array_equal(image, jnst.load_image(first.path))
    reader(second)
    assert reader(first) is image
    reader(third)  # evicts the second, which was used least recently
    assert reader.reads == 3
    assert reader(first) is image
    reader(second)
    assert reader.reads == 4
    alone = Reader("keep", 0)
    assert alone(first) is alone(first)


@pytest.mark.parametrize("fit", ["crop", "resize"])
def test_contents_are_fitted(tmp_path: Path, fit: str):
    path = save(tmp_path / "a.png", 0, width=40, height=20)
    image = np.asarray(Reader(fit)(source(path, (20, 20), size=40)))
    assert image.shape == (20, 20, 3)
    whole = np.asarray(jnst.load_image(path))
    if fit == "crop":
        np.testing.assert_allclose(image, whole[:, 10:30], atol=1e-6)
    else:
        np.testing.assert_allclose(image.mean((0, 1)), whole.mean((0, 1)), atol=0.01)


def test_a_damaged_file_is_not_read_twice(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(save(tmp_path / "b.png", 0).read_bytes()[:60])
    reader = Reader("keep")
    messages = []
    for _ in range(2):
        with pytest.raises(ImageError) as caught:
            reader(source(path))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "a.png" in messages[0]
    assert reader.reads == 1


class CountingStore(TargetStore):
    """A store that is accessible to the test."""

    made: "list[CountingStore]"

    def __init__(self) -> None:
        super().__init__()
        self.made.append(self)


@pytest.mark.usefixtures("unoptimised")
def test_a_worker_keeps_targets_but_limits_compiled_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cleared: list[int] = []
    monkeypatch.setattr(CountingStore, "made", [], raising=False)
    monkeypatch.setattr(work, "TargetStore", CountingStore)
    monkeypatch.setattr(work, "MAX_PROGRAMS", 2)
    monkeypatch.setattr(work.jax, "clear_caches", lambda: cleared.append(worker.programs))
    layers = {"content_layers": ("relu1_1",), "style_layers": ("relu1_1",), "optimizer": "adam"}
    settings = jnst.preset(FLAT, size=24, **layers)
    backbone, params = jnst.load_backbone()
    worker = work.Worker(work.Setup(backbone, params, "", "keep", None, 95))
    style = save(tmp_path / "s.png", 9)
    for width, height in ((24, 18), (18, 24), (24, 18), (24, 20)):
        content = save(tmp_path / f"{width}x{height}.png", 0, width, height)
        one = make_task(Entry(content, (style,), (), 0, "x.png"), "", settings, Sizes())
        ((record, data),) = worker.run([one])
        assert record.error is None
        assert data is not None
        assert Image.open(io.BytesIO(data)).size == (record.width, record.height) == (width, height)
    (store,) = CountingStore.made
    assert (store.contents, store.styles) == (3, 1)
    assert cleared == [2, 4]
    assert worker.programs == 4  # the third one was compiled again
