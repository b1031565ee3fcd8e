"""Image folders: how they are read, split and batched, and how their faults are reported."""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from labelled_images import CLASSES, make_image, save_classes
from PIL import Image

from jnst.apps.training.augmentation import Augmentation, centre_crop
from jnst.apps.training.data import (
    Batch,
    Dataset,
    held_out_batches,
    load_dataset,
    load_folder,
    prefetch,
    read_pixels,
    training_batches,
)
from jnst.errors import ImageError, JnstError

COUNT = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classes(tmp_path_factory.mktemp("data"), COUNT)


@pytest.fixture
def changeable(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "data")


def names(dataset: Dataset, part: str) -> list[str]:
    return [f"{example.path.parent.name}/{example.path.name}" for example in getattr(dataset, part)]


def epoch(dataset: Dataset, number: int = 1, seed: int = 0, batch_size: int = 8, multiple: int = 1) -> list[Batch]:
    return list(
        training_batches(
            dataset,
            batch_size=batch_size,
            size=16,
            seed=seed,
            epoch=number,
            augmentation=Augmentation(),
            multiple=multiple,
        )
    )


def same(left: list[Batch], right: list[Batch]) -> bool:
    return len(left) == len(right) and all(
        np.array_equal(a, b) for pair in zip(left, right, strict=True) for a, b in zip(*pair, strict=True)
    )


def test_each_image_is_in_one_part_and_each_class_in_both(folder: Path) -> None:
    dataset = load_dataset(folder, held_out=0.3)
    assert dataset.classes == tuple(sorted(CLASSES))
    train, test = names(dataset, "train"), names(dataset, "test")
    assert sorted(train + test) == sorted(f"{path.parent.name}/{path.name}" for path in folder.rglob("*.*"))
    for part, count in ((dataset.train, 7), (dataset.test, 3)):
        assert np.bincount([example.label for example in part]).tolist() == [count] * 4
        assert all(dataset.classes[example.label] == example.path.parent.name for example in part)
    assert dataset.damaged == ()


def test_the_split_depends_only_on_the_seed(folder: Path) -> None:
    first, again, other = (load_dataset(folder, seed=seed) for seed in (0, 0, 1))
    assert names(first, "test") == names(again, "test") != names(other, "test")
    assert first.fingerprint == again.fingerprint != other.fingerprint


@pytest.mark.parametrize(("held_out", "test"), [(0.01, 1), (0.99, COUNT - 1)])
def test_both_parts_have_at_least_one_image_per_class(folder: Path, held_out: float, test: int) -> None:
    dataset = load_dataset(folder, held_out=held_out)
    assert np.bincount([example.label for example in dataset.test]).tolist() == [test] * 4


def test_pixels_from_memory_and_from_files_are_the_same(folder: Path) -> None:
    kept, read = load_dataset(folder), load_dataset(folder, max_cached_bytes=20_000)
    assert all(example.pixels is not None for example in kept.train)
    assert 0 < sum(example.pixels is None for example in read.train) < len(read.train)
    assert kept.fingerprint == read.fingerprint
    assert same(epoch(kept), epoch(read))
    example = next(example for example in kept.train if example.path.suffix == ".png")
    assert np.array_equal(read_pixels(example, kept.side), make_image(example.path.parent.name, int(example.path.stem)))


def test_large_images_are_reduced(changeable: Path) -> None:
    Image.fromarray(np.full((90, 61, 3), 200, np.uint8)).save(changeable / "dots" / "large.png")
    dataset = load_dataset(changeable, side=30)
    example = next(example for example in dataset.train + dataset.test if example.path.stem == "large")
    assert np.array_equal(read_pixels(example, 30), np.full((44, 30, 3), 200))


def test_a_changed_pixel_changes_the_fingerprint(changeable: Path) -> None:
    before = load_dataset(changeable).fingerprint
    path = changeable / "dots" / "00.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[3, 4, 1] ^= 1
    Image.fromarray(pixels).save(path)
    assert load_dataset(changeable).fingerprint != before


def test_all_kinds_of_images_become_rgb(changeable: Path) -> None:
    grey = np.arange(30, dtype=np.uint8).repeat(30).reshape(30, 30)
    Image.fromarray(grey).save(changeable / "dots" / "grey.png")
    Image.fromarray(grey).convert("P").save(changeable / "dots" / "palette.gif")
    Image.fromarray(np.dstack([grey, grey, grey, grey])).save(changeable / "dots" / "nested.png")
    dataset = load_dataset(changeable)
    assert len(dataset.train) + len(dataset.test) == 4 * COUNT + 3
    assert all(read_pixels(example, 448).shape[2] == 3 for example in dataset.train + dataset.test)


def test_damaged_files_are_skipped_and_named_and_hidden_files_are_ignored(changeable: Path) -> None:
    whole = (changeable / "checks" / "00.png").read_bytes()
    (changeable / "checks" / "short.png").write_bytes(whole[: len(whole) // 2])
    (changeable / "dots" / "empty.jpg").write_bytes(b"")
    (changeable / "dots" / "._00.jpg").write_bytes(b"not an image")
    (changeable / "dots" / "notes.txt").write_text("not an image")
    (changeable / ".hidden").mkdir()
    dataset = load_dataset(changeable)
    assert len(dataset.train) + len(dataset.test) == 4 * COUNT
    assert len(dataset.damaged) == 2
    assert [Path(line.split("'")[1]).name for line in dataset.damaged] == ["short.png", "empty.jpg"]
    assert all("\n" not in line for line in dataset.damaged)


def empty(folder: Path) -> None:
    for child in folder.iterdir():
        shutil.rmtree(child)


def only_files(folder: Path) -> None:
    empty(folder)
    (folder / "a.png").write_bytes(b"")


def one_class(folder: Path) -> None:
    for kind in ("dots", "checks", "gradients"):
        shutil.rmtree(folder / kind)


def one_image(folder: Path) -> None:
    for path in (folder / "dots").iterdir():
        if path.stem != "03":
            path.unlink()


def no_image(folder: Path) -> None:
    (folder / "nothing").mkdir()


def all_damaged(folder: Path) -> None:
    for path in folder.rglob("*.*"):
        path.write_bytes(b"damaged")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, r"/data' cannot be read \(No such file or directory\): choose a folder"),
        (empty, "/data' contains 0 files and no folders: expected two or more folders"),
        (only_files, "/data' contains 1 files and no folders: expected two or more folders"),
        (one_class, "/data' contains one class folder, 'stripes': expected two or more"),
        (one_image, r"/data/dots' contains 1 readable images .*: expected at least 2"),
        (no_image, r"/data/nothing' contains 0 readable images .*: expected at least 2"),
        (all_damaged, rf"/data': none of its {4 * COUNT} images can be read; the first error: '.*/checks/00.png'"),
    ],
)
def test_unsuitable_folders_are_refused(changeable: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(changeable)
    with pytest.raises(ImageError, match=message) as caught:
        load_dataset(changeable)
    assert "\n" not in str(caught.value)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="contains no images"):
        load_folder(tmp_path)


@pytest.mark.parametrize("held_out", [0.0, 1.0, -0.1, float("nan")])
def test_the_held_out_fraction_lies_between_0_and_1(folder: Path, held_out: float) -> None:
    with pytest.raises(JnstError, match="held-out fraction"):
        load_dataset(folder, held_out=held_out)


def test_an_epoch_has_every_image_once_for_any_batch_size(folder: Path) -> None:
    dataset = load_dataset(folder)
    batches = epoch(dataset, batch_size=7, multiple=4)
    assert [batch.images.shape for batch in batches] == [(8, 16, 16, 3)] * 5
    assert [int(np.sum(batch.weights)) for batch in batches] == [7, 7, 7, 7, 4]
    for batch in batches:
        assert (np.asarray(batch.images).reshape(8, -1).max(axis=1) > 0).tolist() == (batch.weights > 0).tolist()
    labels = np.concatenate([np.asarray(batch.labels)[np.asarray(batch.weights) > 0] for batch in batches])
    assert np.bincount(labels).tolist() == [8] * 4
    # The crop of an image does not depend on its batch.
    whole = epoch(dataset, batch_size=32)[0]
    rows = np.concatenate([np.asarray(batch.images)[np.asarray(batch.weights) > 0] for batch in batches])
    assert np.array_equal(rows, whole.images)


def test_batches_depend_on_seed_and_epoch_but_not_on_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = load_dataset(folder)
    first = epoch(dataset)
    assert not same(first, epoch(dataset, number=2))
    assert not same(first, epoch(dataset, seed=1))
    monkeypatch.setattr("jnst.apps.training.data.prefetch", lambda make, items: map(make, items))
    assert same(first, epoch(dataset))


def test_held_out_batches_are_in_order(folder: Path) -> None:
    dataset = load_dataset(folder)
    batches = list(held_out_batches(dataset, batch_size=5, size=16))
    assert np.concatenate([batch.labels for batch in batches])[: len(dataset.test)].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert np.concatenate([batch.weights for batch in batches]).tolist() == [1.0] * 8 + [0.0] * 2
    first = np.asarray(batches[0].images[0])
    assert np.array_equal(first, centre_crop(read_pixels(dataset.test[0], dataset.side), 16))


def test_prefetch_keeps_the_order_and_is_bounded() -> None:
    begun: list[int] = []

    def make(item: int) -> int:
        begun.append(item)
        time.sleep(0.002 * (item % 3))
        return item

    made = prefetch(make, range(30), workers=3, ahead=4)
    for expected, item in enumerate(made):
        assert item == expected
        assert max(begun) <= item + 4
    assert sorted(begun) == list(range(30))


def test_an_exception_is_passed_on_and_ends_the_threads() -> None:
    def make(item: int) -> int:
        if item == 3:
            raise ImageError("spoilt")
        return item

    before = threading.active_count()
    seen: list[int] = []
    with pytest.raises(ImageError, match="spoilt"):
        seen.extend(prefetch(make, range(1000), workers=2, ahead=4))
    assert threading.active_count() == before


def test_closing_ends_the_threads_of_prefetch() -> None:
    before, begun = threading.active_count(), []
    made = prefetch(begun.append, range(1000), workers=2, ahead=4)
    next(made)
    made.close()
    assert threading.active_count() == before
    assert len(begun) <= 5
