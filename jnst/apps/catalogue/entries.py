"""The images that a catalogue consists of: from folders and sweeps, or from a manifest, each with its file name."""

import hashlib
import itertools
import json
import os
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from jnst.apps.catalogue.sweeps import ALIASES, SETTINGS, Changes, Sweep, check_change, value_text
from jnst.apps.io.load import find_images
from jnst.apps.io.save import FORMATS
from jnst.errors import ArgumentError, ImageError, JnstError, hint
from jnst.weights.files import shown

MAX_NAME_BYTES = 70
"""For each of the three parts of a file name; file systems allow 255 bytes for the whole."""

SEPARATOR = "__"
"""Between the parts of a file name."""

OWN_KEYS = ("content", "style", "output")
"""The keys in a line of a manifest that are not settings."""

UNSAFE = r'[<>:"/\\|?*\x00-\x1f]'
"""Characters that some file system does not allow in names."""

RESERVED = r"(?i)(sheet(-\d+)?|con|prn|aux|nul|com\d|lpt\d)\."
"""Names of other files in the folder, and of devices on Windows."""

_EXAMPLE = '{"content": "a.jpg", "style": "b.jpg", "style_weight": 100}'

Thing = TypeVar("Thing", bound=Hashable)


class Entry(NamedTuple):
    """An image to make.

    Attributes:
        content: The content image's file.
        styles: The style images' files; several are mixed.
        changes: How the settings differ from the catalogue's.
        seed: For noise and stochastic losses.
        file: The name of the image's file in the output folder.
    """

    content: Path
    styles: tuple[Path, ...]
    changes: Changes
    seed: int
    file: str

    @property
    def settings(self) -> dict[str, Any]:
        """The changes as a mapping."""
        return dict(self.changes)


def collect(paths: Sequence[Path], flag: str) -> tuple[list[Path], list[Path]]:
    """Find the images among files and folders, each once, and the other files in the folders.

    Args:
        paths: Files, which are taken as they are, and folders, whose image files are taken sorted by name.
        flag: The command-line flag that named them, for messages.

    Raises:
        ImageError: A path does not exist, or a folder has no images.
    """
    images: list[Path] = []
    others: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ImageError(f"{flag} {shown(path)} does not exist: check the name and the folder")
        if not path.is_dir():
            images.append(path)
            continue
        found, skipped = find_images(path)
        if not found:
            raise ImageError(f"{flag} {shown(path)} contains no images: name image files, or a folder that has some")
        images += found
        others += skipped
    unique: dict[Path, Path] = {}
    for path in images:
        unique.setdefault(path.resolve(), path)
    return list(unique.values()), others


def product(
    contents: Sequence[Path], styles: Sequence[Path], sweeps: Sequence[Sweep], seed: int, suffix: str
) -> list[Entry]:
    """Combine every content, every style and every swept value; the last sweep changes fastest.

    Args:
        contents: Image files.
        styles: Image files.
        sweeps: Sweeps of different settings.
        seed: The seed where it is not swept.
        suffix: The suffix of the images to make, such as ".png".
    """
    content_labels, style_labels = labels(contents), labels(styles)
    names = [sweep.name for sweep in sweeps]
    combinations = [
        (content, style, tuple(zip(names, values, strict=True)))
        for content in contents
        for style in styles
        for values in itertools.product(*(sweep.values for sweep in sweeps))
    ]
    stems = distinct({one: image_name(content_labels[one[0]], [style_labels[one[1]]], one[2]) for one in combinations})
    return [
        Entry(content, (style,), changes, dict(changes).get("seed", seed), stems[content, style, changes] + suffix)
        for content, style, changes in combinations
    ]


# Manifests


class _Line(NamedTuple):
    """A line of a manifest and its number."""

    number: int
    content: Path
    styles: tuple[Path, ...]
    changes: Changes
    output: str | None

    @property
    def request(self) -> tuple[Path, tuple[Path, ...], Changes]:
        return self.content, self.styles, self.changes


def read_manifest(path: Path, seed: int, suffix: str, check: Callable[[Changes], object]) -> list[Entry]:
    """Read a manifest: one JSON object per line, each an image to make.

    The keys are ``content`` (a file), ``style`` (a file, or a list of files to mix), ``output`` (a file name, optional)
    and any of `jnst.apps.catalogue.sweeps.SETTINGS`. File names are relative to the manifest's folder. Empty lines are
    skipped.

    Args:
        path: The file, in UTF-8.
        seed: The seed of lines that have none.
        suffix: The suffix for outputs without one, such as ".png".
        check: Called with the settings of each line; raises a `JnstError` if they cannot be used.

    Raises:
        ArgumentError: The file cannot be read, a line is wrong, or two lines make the same file. The message names the
            line.
    """
    try:
        texts = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ArgumentError(f"--manifest {shown(path)} cannot be read ({error.strerror}): check the name") from None
    except UnicodeDecodeError as error:
        raise ArgumentError(f"--manifest {shown(path)} is not UTF-8 ({error.reason}): save it as UTF-8") from None
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            if text.strip():
                lines.append(_parse_line(number, text, path.parent, suffix))
                check(lines[-1].changes)
        except JnstError as error:
            raise ArgumentError(f"{path} line {number}: {error}") from None
    if not lines:
        raise ArgumentError(f"--manifest {shown(path)} is empty: write one JSON object per line, such as {_EXAMPLE}")
    return _to_entries(path, lines, seed, suffix)


def _parse_line(number: int, text: str, folder: Path, suffix: str) -> _Line:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ArgumentError(f"not JSON ({error}): expected an object such as {_EXAMPLE}") from None
    if not isinstance(data, dict):
        raise ArgumentError(f"a {type(data).__name__}: expected an object such as {_EXAMPLE}")
    for key in data:
        if key not in (*OWN_KEYS, *SETTINGS, *ALIASES):
            raise ArgumentError(f"unknown key {key!r}: {hint(key, (*OWN_KEYS, *SETTINGS, *ALIASES))}")
    content, *more = _file_names("content", data.get("content"))
    if more:
        raise ArgumentError(f"content is {data['content']!r}: expected one image file (style may be several)")
    styles = _file_names("style", data.get("style"))
    changes = tuple(check_change(key, value) for key, value in data.items() if key not in OWN_KEYS)
    if len({name for name, _ in changes}) < len(changes):
        raise ArgumentError("a setting is given twice, under two names: give it once")
    output = None if data.get("output") is None else _output_name(data["output"], suffix)
    return _Line(number, folder / content, tuple(folder / file for file in styles), changes, output)


def _file_names(key: str, value: Any) -> list[str]:
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ArgumentError(f"{key} is {value!r}: expected the name of an image file")
    return names


def _output_name(name: Any, suffix: str) -> str:
    if not isinstance(name, str) or not name or re.search(UNSAFE, name) or name.startswith(".") or name != name.strip():
        raise ArgumentError(f"output is {name!r}: expected a file name, without folders and characters such as : or ?")
    own = PurePosixPath(name).suffix.lower()
    if own and own not in FORMATS:
        raise ArgumentError(f"output is {name!r}: expected a name ending in {', '.join(FORMATS)}, or without a suffix")
    whole = name if own else name + suffix
    if re.match(RESERVED, whole) or len(whole.encode()) > 240:
        raise ArgumentError(f"output is {name!r}: this name is reserved or too long, choose another")
    return whole


def _to_entries(path: Path, lines: list[_Line], seed: int, suffix: str) -> list[Entry]:
    """Give every line a file name."""
    content_labels = labels(line.content for line in lines)
    style_labels = labels(style for line in lines for style in line.styles)
    stems = distinct(
        {
            line.request: image_name(
                content_labels[line.content], [style_labels[style] for style in line.styles], line.changes
            )
            for line in lines
            if line.output is None
        }
    )
    chosen = {folded(line.output) for line in lines if line.output is not None}
    makers: dict[str, int] = {}
    entries = []
    for line in lines:
        file = line.output or stems[line.request] + suffix
        if line.output is None and folded(file) in chosen:
            file = f"{stems[line.request]}-{short_hash(repr(line.request))}{suffix}"
        first = makers.setdefault(folded(file), line.number)
        if first != line.number:
            raise ArgumentError(f"{path} line {line.number}: makes {file}, as line {first} does: name another output")
        entries.append(Entry(*line.request, dict(line.changes).get("seed", seed), file))
    return entries


# File names: descriptive, valid on every file system, and distinct


def safe(text: str) -> str:
    """The text without characters that some file system does not allow; letters and digits of any script are kept."""
    whole = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode())
    name = re.sub(r"[^\w.=+-]+", "_", whole).rstrip(".").lstrip(".-") or "_"
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    return f"{name.encode()[: MAX_NAME_BYTES - 9].decode(errors='ignore')}-{short_hash(name)}"


def short_hash(text: str) -> str:
    """Eight hexadecimal digits that depend on the text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def folded(name: str) -> str:
    """A form that is equal for names that some file system takes for the same: other case, or other Unicode forms."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def labels(paths: Iterable[Path]) -> dict[Path, str]:
    """A short name for each file, all distinct: the stem, with suffix and folders where that is not enough."""
    remaining = list(dict.fromkeys(paths))
    chosen: dict[Path, str] = {}
    attempts: list[Callable[[Path], str]] = [
        lambda path: safe(path.stem),
        lambda path: safe(_with_suffix(path)),
        lambda path: safe("_".join([*_folders(path)[-1:], path.stem])),
        lambda path: safe("_".join([*_folders(path)[-2:], _with_suffix(path)])),
        lambda path: f"{safe(path.stem)}-{short_hash(os.path.abspath(path))}",
    ]
    for attempt in attempts:
        proposed = {path: attempt(path) for path in remaining}
        counts = Counter(folded(name) for name in (*chosen.values(), *proposed.values()))
        chosen |= {path: name for path, name in proposed.items() if counts[folded(name)] == 1}
        remaining = [path for path in remaining if path not in chosen]
    return chosen


def _with_suffix(path: Path) -> str:
    return path.name.replace(".", "_")


def _folders(path: Path) -> Sequence[str]:
    return Path(os.path.abspath(path)).parent.parts[1:]


def image_name(content: str, styles: Sequence[str], changes: Changes) -> str:
    """An image's file name without suffix: the labels of its content and styles, and its changes."""
    settings = SEPARATOR.join(safe(f"{name}={value_text(value)}") for name, value in changes)
    return SEPARATOR.join([content, safe("+".join(styles)), *([safe(settings)] if settings else [])])


def distinct(names: Mapping[Thing, str]) -> dict[Thing, str]:
    """The names, with a hash of the key appended to those that some file system takes for the same."""
    counts = Counter(folded(name) for name in names.values())
    return {
        thing: name if counts[folded(name)] == 1 else f"{name}-{short_hash(repr(thing))}"
        for thing, name in names.items()
    }


# The output folder


def make_folder(folder: Path) -> None:
    """Make the output folder if it does not exist, and check that files can be created in it.

    Raises:
        ArgumentError: It cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # more reliable than permission bits: file systems may be read-only
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(f"--output {shown(folder)} cannot be written to ({reason}): name another folder") from None


def check_inputs(entries: Sequence[Entry], folder: Path) -> None:
    """Check that no image replaces an input.

    Raises:
        ArgumentError: One does; the message names the file.
    """
    # Resolving is slow: each input once, and the folder once.
    inputs = {path.resolve() for path in {path for entry in entries for path in (entry.content, *entry.styles)}}
    resolved = folder.resolve()
    for entry in entries:
        path = resolved / entry.file
        if (path.resolve() if path.is_symlink() else path) in inputs:
            raise ArgumentError(f"{shown(folder / entry.file)} would replace an input: name another --output")
