"""Catalogues written down: one JSON object a line, each an image to make."""

import json
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from jnst.apps.catalogue.changes import OTHER_NAMES, SETTINGS, Changes, check_change
from jnst.apps.catalogue.entries import Entry
from jnst.apps.catalogue.names import distinct, folded, image_name, labels, short_hash
from jnst.apps.io.save import FORMATS
from jnst.errors import ArgumentError, JnstError, hint
from jnst.weights.files import shown

OWN = ("content", "style", "output")
"""The keys of a line that are no settings."""

UNSAFE = r'[<>:"/\\|?*\x00-\x1f]'
"""What some file system does not bear in a name."""

RESERVED = r"(?i)(sheet(-\d+)?|con|prn|aux|nul|com\d|lpt\d)\."
"""Names that other files here have, or devices of Windows."""


class _Line(NamedTuple):
    """A line: its number, and what it asks for."""

    number: int
    content: Path
    styles: tuple[Path, ...]
    changes: Changes
    output: str | None


def read_manifest(path: Path, seed: int, suffix: str, check: Callable[[Changes], object]) -> list[Entry]:
    """Read a manifest.

    Each line is a JSON object: ``content`` (a file), ``style`` (a file, or a list of files that are mixed), ``output``
    (a file name; optional) and any settings of `jnst.apps.catalogue.changes.SETTINGS`. Names of files are relative to the
    manifest's folder. Empty lines are passed over.

    Args:
        path: The file, in UTF-8.
        seed: Where a line gives none.
        suffix: Of names that lack one, such as ".png".
        check: Called with each line's settings; raises a `JnstError` where they make no sense.

    Raises:
        ArgumentError: The file cannot be read, a line is wrong, or two lines make the same file; the line is named.
    """
    try:
        texts = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ArgumentError(f"--manifest {shown(path)} cannot be read ({error.strerror}): check the name") from None
    except UnicodeDecodeError as error:
        raise ArgumentError(f"--manifest {shown(path)} is not UTF-8 ({error.reason}): save it as such") from None
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            if text.strip():
                lines.append(_parse(number, text, path.parent, suffix))
                check(lines[-1].changes)
        except JnstError as error:
            raise ArgumentError(f"{path} line {number}: {error}") from None
    if not lines:
        raise ArgumentError(f"--manifest {shown(path)} has no lines: write one JSON object for each image")
    return _entries(path, lines, seed, suffix)


def _parse(number: int, text: str, folder: Path, suffix: str) -> _Line:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ArgumentError(f"no JSON ({error}): expected an object such as {_EXAMPLE}") from None
    if not isinstance(data, dict):
        raise ArgumentError(f"a {type(data).__name__}, expected an object such as {_EXAMPLE}")
    for key in data:
        if key not in (*OWN, *SETTINGS, *OTHER_NAMES):
            raise ArgumentError(f"unknown key {key!r}: {hint(key, (*OWN, *SETTINGS, *OTHER_NAMES))}")
    content, *more = _files("content", data.get("content"))
    if more:
        raise ArgumentError(f"content is {data['content']!r}: expected one image file (style may be several)")
    styles = _files("style", data.get("style"))
    changes = tuple(check_change(key, value) for key, value in data.items() if key not in OWN)
    if len({name for name, _ in changes}) < len(changes):
        raise ArgumentError("a setting is there twice, under two names: give it once")
    output = None if data.get("output") is None else _output(data["output"], suffix)
    return _Line(number, folder / content, tuple(folder / file for file in styles), changes, output)


def _files(key: str, given: Any) -> list[str]:
    names = given if isinstance(given, list) else [given]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ArgumentError(f"{key} is {given!r}: expected the name of an image file")
    return names


_EXAMPLE = '{"content": "a.jpg", "style": "b.jpg", "style_weight": 100}'


def _output(name: Any, suffix: str) -> str:
    if not isinstance(name, str) or not name or re.search(UNSAFE, name) or name.startswith(".") or name != name.strip():
        raise ArgumentError(f"output is {name!r}: expected a file name, without folders and characters such as : or ?")
    own = PurePosixPath(name).suffix.lower()
    if own and own not in FORMATS:
        raise ArgumentError(f"output is {name!r}: expected a name that ends in one of {', '.join(FORMATS)}, or has no end")
    whole = name if own else name + suffix
    if re.match(RESERVED, whole) or len(whole.encode()) > 240:
        raise ArgumentError(f"output is {name!r}: that name is reserved or too long, choose another")
    return whole


def _entries(path: Path, lines: list[_Line], seed: int, suffix: str) -> list[Entry]:
    """The lines with a file name each."""
    of_contents = labels(line.content for line in lines)
    of_styles = labels(style for line in lines for style in line.styles)
    said = {
        line: image_name(of_contents[line.content], [of_styles[style] for style in line.styles], line.changes)
        for line in lines
        if line.output is None
    }
    stems = distinct({(line.content, line.styles, line.changes): stem for line, stem in said.items()})
    given = {folded(line.output) for line in lines if line.output is not None}
    makers: dict[str, int] = {}
    entries = []
    for line in lines:
        asked = (line.content, line.styles, line.changes)
        file = line.output or stems[asked] + suffix
        if line.output is None and folded(file) in given:
            file = f"{stems[asked]}-{short_hash(repr(asked))}{suffix}"
        first = makers.setdefault(folded(file), line.number)
        if first != line.number:
            raise ArgumentError(f"{path} line {line.number}: makes {file}, as line {first} does: name another output")
        entries.append(Entry(*asked, dict(line.changes).get("seed", seed), file))
    return entries
