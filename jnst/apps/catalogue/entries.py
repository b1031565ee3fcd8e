"""What a catalogue consists of."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jnst.apps.catalogue.changes import Changes, Sweep
from jnst.apps.catalogue.names import distinct, image_name, labels
from jnst.apps.io.peek import find_images
from jnst.errors import ImageError
from jnst.weights.files import shown


class Entry(NamedTuple):
    """An image to make.

    Attributes:
        content: The file whose content is kept.
        styles: The files whose style is taken; of several, a mixture.
        changes: What differs from the catalogue's settings.
        seed: For noise and losses that draw at random.
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
    """The images among files and folders, each once, and the other files of the folders.

    Args:
        paths: Files, which are taken as they are, and folders, whose image files are taken sorted by name.
        flag: What named them, for messages.

    Raises:
        ImageError: A path that does not exist, or a folder without images.
    """
    images: list[Path] = []
    others: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ImageError(f"{flag} {shown(path)} does not exist: check the name and the folder")
        if not path.is_dir():
            images.append(path)
            continue
        found, left = find_images(path)
        if not found:
            raise ImageError(f"{flag} {shown(path)} holds no images: name image files, or a folder that has some")
        images += found
        others += left
    once: dict[Path, Path] = {}
    for path in images:
        once.setdefault(path.resolve(), path)
    return list(once.values()), others


def product(
    contents: Sequence[Path], styles: Sequence[Path], sweeps: Sequence[Sweep], seed: int, suffix: str
) -> list[Entry]:
    """Every content in every style under every combination of swept values, the last sweep changing fastest.

    Args:
        contents: Image files.
        styles: Image files.
        sweeps: Of different settings.
        seed: Where none is swept.
        suffix: Of the images to make, such as ".png".
    """
    of_contents, of_styles = labels(contents), labels(styles)
    names = [sweep.name for sweep in sweeps]
    asked = [
        (content, style, tuple(zip(names, values, strict=True)))
        for content in contents
        for style in styles
        for values in itertools.product(*(sweep.values for sweep in sweeps))
    ]
    stems = distinct({one: image_name(of_contents[one[0]], [of_styles[one[1]]], one[2]) for one in asked})
    return [
        Entry(content, (style,), changes, dict(changes).get("seed", seed), stems[content, style, changes] + suffix)
        for content, style, changes in asked
    ]
