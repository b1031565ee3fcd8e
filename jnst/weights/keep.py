"""Published files: their hashes checked, then converted, and kept where they are looked for."""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jnst.errors import WeightsError
from jnst.weights import Weights, read_weights, save_weights
from jnst.weights.cache import Place, read_record, write_record
from jnst.weights.formats import read_tensors
from jnst.weights.formats.tfjs import wanted_shards
from jnst.weights.layouts import used_tensors
from jnst.weights.registry import HEADS, Source


class WrongContent(Exception):
    """A file that has not the hash that it should."""


def keep(source: Source, place: Place, published: Path) -> Path:
    """Check and convert a published file, and put the result into its place, where it appears whole.

    The sha256 of what was published is recorded the first time, and is enforced from then on.

    Args:
        source: What it should be.
        place: Where its files are.
        published: The file, in the folder of what is not checked yet or put there by hand.

    Returns:
        The file that is used from now on.

    Raises:
        WrongContent: Another hash than documented, or than recorded.
        WeightsError: It does not hold what it should.
        OSError: The disk is full, or the folder cannot be written.
    """
    record = read_record(place)
    found = dict(_checked_digests(source, place, published, record))
    place.partial.mkdir(exist_ok=True)
    new = place.partial / f"new{place.weights.suffix}"
    if place.name in HEADS:
        read_tensors(published)
        shutil.copyfile(published, new)
    else:
        weights = read_weights(published, source.architecture)
        if weights.training != source.training:
            raise WeightsError(f"{published}: {weights.training} weights, expected {source.training}: get it again")
        _save(new, weights)
    kept = {
        "address": source.address,
        "weights": digest(new, "sha256"),
        "files": {**record.get("files", {}), **found},
        "since": {**dict.fromkeys(found, time.strftime("%Y-%m-%d")), **record.get("since", {})},
    }
    # First the record: weights without one would be trusted without a hash.
    write_record(place, kept)
    os.replace(new, place.weights)
    return place.weights


def _save(path: Path, weights: Weights) -> None:
    try:
        save_weights(path, weights)
    except WeightsError as error:
        # The disk, not the weights.
        raise error.__cause__ if isinstance(error.__cause__, OSError) else error from None


def _checked_digests(
    source: Source, place: Place, published: Path, record: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """The sha256 of the published files by name, each checked against what is documented and what was seen first."""
    paths = [published]
    if source.file_name == "model.json":
        check_documented(source, source.file_name, published)
        paths += [published.parent / name for names, _ in wanted_shards(published, used_tensors) for name in names]
    top = place.partial if place.partial in published.parents else published.parent
    for path in paths:
        name = path.relative_to(top).as_posix()
        check_documented(source, name, path)
        found, first = digest(path, "sha256"), record.get("files", {}).get(name)
        if first not in (None, found):
            since = record.get("since", {}).get(name, "an earlier day")
            raise WrongContent(
                f"{name} has sha256 {found}, but on {since} {source.address} gave {first} (if its publisher says that "
                f"it changed, delete {place.record})"
            )
        yield name, found


def check_documented(source: Source, name: str, path: Path) -> None:
    """Check a published file against its documented hash. Tensors out of a file have none.

    Args:
        source: What it should be.
        name: Its name, relative to the folder of the source's first file.
        path: Where it is.

    Raises:
        WrongContent: It has another hash.
        WeightsError: It is not there.
        OSError: It cannot be read.
    """
    if name == source.file_name:
        kind, value = source.hash_kind.removesuffix("-prefix"), source.hash_value
    else:
        kind, value = "sha256", source.shards.get(name, "")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file, expected a shard of the model beside it: put it there")
    if value and not (found := digest(path, kind)).startswith(value):
        raise WrongContent(f"{name} has {kind} {found}, documented is {value}")


def digest(path: Path, kind: str) -> str:
    """A file's hash in hexadecimal digits; ``kind`` is what `hashlib.new` calls it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
