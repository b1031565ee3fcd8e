"""Published weights, downloaded once, checked, converted and kept; what is in the cache touches no network."""

import contextlib
import dataclasses
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from jnst.errors import JnstError, ResourceError, WeightsError
from jnst.weights import cache
from jnst.weights.cache import Place
from jnst.weights.formats import read_tensors
from jnst.weights.keep import WrongContent, digest, keep
from jnst.weights.opener import Refused, Transport
from jnst.weights.pull import pull
from jnst.weights.registry import HEADS, SOURCES, Source, find_source, get_source
from jnst.weights.transport import Interrupted

TRANSPORT = Transport()
"""How servers are talked to."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What `verify` found.

    Attributes:
        name: The source.
        path: The cached file.
        fault: What is wrong with it; empty: nothing.
    """

    name: str
    path: Path
    fault: str


def fetch(name: str, *, offline: bool | None = None, force: bool = False, whole: bool = False) -> Path:
    """The path of published weights, downloaded first where the cache has none.

    Before a download, a line on standard error says what comes, how large it is, and where from and to. One process
    downloads, others that want the same wait for it. What was interrupted is gone on with. A published file that lies
    in the source's folder, under its published name, is taken instead of a download.

    Args:
        name: A key of `jnst.weights.registry.SOURCES` or `HEADS`, or an architecture, for the row to recommend.
        offline: Whether the network is forbidden; None: what ``JNST_OFFLINE`` says.
        force: Download even if the cache has it.
        whole: Download the whole file where only the tensors in use would do, so that its documented hash is checked.

    Returns:
        A safetensors file of jnst's own; of `HEADS` the published file.

    Raises:
        ArgumentError: An unknown name.
        WeightsError: It cannot be downloaded, has a wrong hash or does not hold what it should, or the cache cannot be
            used; the message says where to put the file by hand.
        ResourceError: The disk is full.
    """
    row = find_source(name)
    source, place = get_source(row), _place(row)
    if (path := _ready(place)) and not force:
        return path
    given = place.folder / source.file_name
    if (cache.offline() if offline is None else offline) and not given.is_file():
        raise WeightsError(
            f"{row} has to be downloaded, but the network is off (--offline, JNST_OFFLINE): {_by_hand(source, place)}"
        )
    with _disk_trouble(source, place):
        cache.prepare(place)
        with cache.locked(place):
            if (path := _ready(place)) and not force:
                return path
            # Before anything is downloaded: an unreadable one is an error.
            cache.read_record(place)
            if given.is_file():
                return _take(source, place, given)
            return _download(source, place, whole)


def cached(name: str) -> Path | None:
    """The path of published weights that are in the cache; None where they are not.

    Args:
        name: As for `fetch`.

    Raises:
        ArgumentError: An unknown name.
        WeightsError: Anyone may write into the cache.
    """
    return _ready(_place(find_source(name)))


def verify() -> list[Verdict]:
    """Read every file of the cache, and compare it with the hash that was recorded when it was made.

    Raises:
        WeightsError: Anyone may write into the cache.
    """
    places = map(_place, (*SOURCES, *HEADS))
    return [Verdict(place.name, path, _fault(place)) for place in places if (path := _ready(place))]


def size_of(source: Source, whole: bool = False) -> str:
    """What a download takes, in words ("80 of 575 MB").

    Args:
        source: The source.
        whole: Also where only the tensors in use would do.
    """
    if source.megabytes is None:
        return "size not documented"
    needed = None if whole else source.needed_megabytes
    return f"{needed:.3g} of {source.megabytes:.3g} MB" if needed else f"{source.megabytes:.3g} MB"


def hash_of(source: Source) -> str:
    """The documented hash, in words ("md5 253f…")."""
    return f"{source.hash_kind} {source.hash_value}" if source.hash_value else "no documented hash"


def _place(row: str) -> Place:
    return cache.place(row, ".pth" if row in HEADS else ".safetensors")


def _ready(place: Place) -> Path | None:
    return place.weights if cache.has_weights(place) else None


def _fault(place: Place) -> str:
    try:
        recorded = cache.read_record(place).get("weights", "")
        found = digest(place.weights, "sha256")
        if found != recorded:
            return f"sha256 {found}, recorded is {recorded or 'none'}"
        read_tensors(place.weights)
    except JnstError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return ""


def _take(source: Source, place: Place, given: Path) -> Path:
    """Keep a file that was put there by hand."""
    try:
        return keep(source, place, given)
    except WrongContent as error:
        raise WeightsError(f"{given.parent}: {error}: get it again from {source.address}, or delete it") from error
    finally:
        shutil.rmtree(place.partial, ignore_errors=True)


def _download(source: Source, place: Place, whole: bool) -> Path:
    cache.say(
        f"downloading {place.name} ({size_of(source, whole)}, {source.licence}) from {source.address} to {place.folder}"
    )
    try:
        try:
            path = keep(source, place, pull(source, place, whole, TRANSPORT))
        except WrongContent as error:
            cache.say(f"{place.name}: {error}: downloading it once more")
            shutil.rmtree(place.partial)
            path = keep(source, place, pull(source, place, whole, TRANSPORT))
        shutil.rmtree(place.partial)
        return path
    except Interrupted as error:
        # What can be gone on with stays.
        _remove_empty(place.partial)
        raise WeightsError(f"{place.name} did not arrive: {error}: {_by_hand(source, place)}") from error
    except (Refused, WrongContent) as error:
        shutil.rmtree(place.partial, ignore_errors=True)
        raise WeightsError(f"{place.name} cannot be had: {error}: {_by_hand(source, place)}") from error
    except WeightsError as error:
        shutil.rmtree(place.partial, ignore_errors=True)
        raise WeightsError(f"what came from {source.address} for {place.name} cannot be used: {error}") from error
    except OSError:
        shutil.rmtree(place.partial, ignore_errors=True)
        raise


def _by_hand(source: Source, place: Place) -> str:
    """What to do without a download."""
    beside = " with its shards beside it" if source.file_name == "model.json" else ""
    return (
        f"get {source.address} ({size_of(source, whole=True)}, {hash_of(source)}, {source.licence}) elsewhere and put "
        f"it at {place.folder / source.file_name}{beside}, or pass its path as weights"
    )


def _remove_empty(folder: Path) -> None:
    """Remove folders that hold no file."""
    for parent, _, _ in os.walk(folder, topdown=False):
        if not os.listdir(parent):
            os.rmdir(parent)


@contextlib.contextmanager
def _disk_trouble(source: Source, place: Place) -> Iterator[None]:
    """Turn failures to write into errors that say what to do."""
    try:
        yield
    except OSError as error:
        what = f"{place.folder}: the cache cannot be written ({error.strerror or error})"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(f"{what}: free some space, or name another folder in JNST_CACHE") from error
        raise WeightsError(f"{what}: name another folder in JNST_CACHE, or {_by_hand(source, place)}") from error
