"""A report: one HTML file without scripts that loads nothing from other hosts."""

import base64
import dataclasses
import functools
import importlib.util
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import jax
import numpy as np
from PIL import Image as Pillow

from jnst.apps.pixels import to_jpeg, to_levels
from jnst.apps.report.curves import Curves, curves_svg
from jnst.errors import ArgumentError
from jnst.types import Image
from jnst.weights.files import PathLike, write_atomically

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_SIDE = 1600
"""The longer side of embedded images in pixels; larger ones are reduced."""
PACKAGES = ("jnst", "jax", "jaxlib", "flax", "optax", "numpy", "pillow")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data: file:"

ImageSource = Path | Image | np.ndarray | Pillow.Image
"""A file, to which the page links, or an image to embed: ``(h, w, 3)`` in [0, 1], or Pillow's."""


@dataclasses.dataclass(frozen=True, eq=False)
class Figure:
    """An image with a caption.

    Attributes:
        image: See `ImageSource`.
        caption: The text below the image.
        name: The text for readers who do not see the image; the caption if empty.
    """

    image: ImageSource
    caption: str = ""
    name: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Figures:
    """Images side by side, as many as fit.

    Attributes:
        figures: The images.
        wide: Whether to put them below each other instead, at their full size.
    """

    figures: Sequence[Figure]
    wide: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Rows of texts and numbers, formatted by `cell_text`."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Plot:
    """Curves on a logarithmic axis."""

    curves: Curves
    axis: str = "step"


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
    """Names and their values."""

    facts: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Code:
    """A command to type."""

    text: str


Block = str | Figures | Table | Plot | Facts | Code
"""A part of a section; a string is a paragraph."""


@dataclasses.dataclass(frozen=True, eq=False)
class Page:
    """A report.

    Attributes:
        title: Its heading.
        summary: A sentence or two below the title.
        sections: A heading and the blocks below it, for each section.
    """

    title: str
    summary: str
    sections: Sequence[tuple[str, Sequence[Block]]]


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that affect results, and the devices."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found | {"devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}"}


def cell_text(value: Any) -> str:
    """A value as tables show it: floats with five digits, None as a dash.

    >>> cell_text(1.23456789), cell_text(7), cell_text(None)
    ('1.2346', '7', '–')
    """
    if value is None:
        return "–"
    if isinstance(value, float | np.floating | jax.Array):
        return f"{float(value):.5g}"
    return str(value)


def check_installed() -> None:
    """Check that pages can be rendered, before a long run that ends with one.

    Raises:
        ArgumentError: A package is missing.
    """
    for package in ("jinja2", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            raise ArgumentError(f"reports need {package}, which is not installed: pip install 'jnst[app]'")


def render(page: Page, folder: Path) -> str:
    """Render a page as HTML. Everything in its texts is escaped.

    Args:
        page: The report.
        folder: The folder of the page, relative to which it links to image files.
    """
    return _templates().get_template("report.html").render(page=page, folder=folder, policy=POLICY)


def save_page(path: PathLike, page: Page) -> None:
    """Write a report atomically.

    Raises:
        ArgumentError: The file cannot be written. The old file is intact.
        ResourceError: The disk is full. The old file is intact.
    """
    # Bytes of file names that are not valid Unicode become question marks.
    write_atomically(path, render(page, Path(os.fsdecode(path)).parent).encode("utf-8", "replace"))


def _image_attributes(image: ImageSource, folder: Path) -> dict[str, Any]:
    """The attributes of an image's tag."""
    if isinstance(image, Path):
        relative = Path(os.path.relpath(image, folder)).as_posix()
        return {"src": quote(os.fsencode(relative)), "loading": "lazy"}
    shown = image if isinstance(image, Pillow.Image) else Pillow.fromarray(to_levels(image))
    data, (width, height) = to_jpeg(shown, max_side=MAX_SIDE)
    return {"src": _data_address("image/jpeg", data), "width": width, "height": height}


def _plot_address(plot: Plot) -> str:
    return _data_address("image/svg+xml", curves_svg(plot.curves, axis=plot.axis).encode())


def _data_address(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


@functools.cache
def _templates() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "cell_text": cell_text,
        "image_attributes": _image_attributes,
        "kind": lambda block: type(block).__name__,
        "plot_address": _plot_address,
    }
    return templates
