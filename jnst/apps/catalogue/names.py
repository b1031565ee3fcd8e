"""File names that say what is in them, on every file system, and no two alike."""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from jnst.apps.catalogue.changes import Changes, in_words

MOST_BYTES = 70
"""Of one of the three parts of a name; file systems allow 255 for the whole."""

BETWEEN = "__"
"""Between the parts."""

Thing = TypeVar("Thing", bound=Hashable)


def safe(text: str) -> str:
    """The text without what some file system does not bear: letters and digits of any script, and ``.=+-_``."""
    whole = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode())
    name = re.sub(r"[^\w.=+-]+", "_", whole).rstrip(".").lstrip(".-") or "_"
    return name if len(name.encode()) <= MOST_BYTES else _cut(name)


def _cut(name: str) -> str:
    kept = name.encode()[: MOST_BYTES - 9].decode(errors="ignore")
    return f"{kept}-{short_hash(name)}"


def short_hash(*parts: object) -> str:
    """Eight hexadecimal digits that tell things with different texts apart."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def folded(name: str) -> str:
    """What names have in common that some file system takes for one: case and the way of writing accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def labels(paths: Iterable[Path]) -> dict[Path, str]:
    """A short name for each file, all different: its stem, or if that is not enough suffix and folders as well."""
    waiting = list(dict.fromkeys(paths))
    chosen: dict[Path, str] = {}
    for attempt in (_stem, _name, _in_folder, _in_two_folders, _with_hash):
        proposed = {path: attempt(path) for path in waiting}
        taken = Counter(folded(name) for name in (*chosen.values(), *proposed.values()))
        chosen |= {path: name for path, name in proposed.items() if taken[folded(name)] == 1}
        waiting = [path for path in waiting if path not in chosen]
    return chosen


def _stem(path: Path) -> str:
    return safe(path.stem)


def _name(path: Path) -> str:
    return safe(path.name.replace(".", "_"))


def _in_folder(path: Path) -> str:
    return safe("_".join([*_folders(path)[-1:], path.stem]))


def _in_two_folders(path: Path) -> str:
    return safe("_".join([*_folders(path)[-2:], path.name.replace(".", "_")]))


def _folders(path: Path) -> Sequence[str]:
    return Path(os.path.abspath(path)).parent.parts[1:]


def _with_hash(path: Path) -> str:
    return f"{safe(path.stem)}-{short_hash(os.path.abspath(path))}"


def image_name(content: str, styles: Sequence[str], changes: Changes) -> str:
    """The name, without suffix, of an image: its content's and its styles' labels, and what was changed."""
    said = [safe(f"{name}={in_words(value)}") for name, value in changes]
    return BETWEEN.join([content, safe("+".join(styles)), *([safe(BETWEEN.join(said))] if said else [])])


def distinct(names: Mapping[Thing, str]) -> dict[Thing, str]:
    """The names; those that some file system takes for one get a hash of what they are names of."""
    count = Counter(folded(name) for name in names.values())
    return {
        thing: name if count[folded(name)] == 1 else f"{name}-{short_hash(repr(thing))}"
        for thing, name in names.items()
    }
