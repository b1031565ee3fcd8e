"""A report: one HTML page without scripts that asks no other place for anything."""

import base64
import dataclasses
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jax
import numpy as np
from PIL import Image as Pillow

from jnst.apps.report.curves import Curves, Style, curves_svg, styles
from jnst.apps.report.look import CSS
from jnst.types import Image
from jnst.weights.files import write_atomically

MOST_SIDE = 1600
"""Pixels of an embedded image's longer side; larger ones are reduced."""
QUALITY = 90
"""Of embedded images, as JPEG."""
PACKAGES = ("jnst", "jax", "jaxlib", "flax", "optax", "numpy", "pillow")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data: file:"


@dataclasses.dataclass(frozen=True, eq=False)
class Figure:
    """An image with a caption.

    Attributes:
        image: A file, which stays beside the page; or what is embedded: floats ``(h, w, 3)`` in [0, 1], or Pillow's.
        caption: The line below.
        name: What it is, for those who do not see it; empty: the caption says so.
    """

    image: Path | Image | np.ndarray | Pillow.Image
    caption: str = ""
    name: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Figures:
    """Images side by side, as many as there is room for.

    Attributes:
        figures: The images.
        wide: One below the other, as large as they are.
    """

    figures: Sequence[Figure]
    wide: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Rows of texts and numbers; numbers are shown with five digits, None as a dash."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Plot:
    """Curves on a logarithmic axis, see `jnst.apps.report.curves.curves_svg`."""

    curves: Curves
    axis: str = "step"


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
    """Names and what they are."""

    facts: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Code:
    """A command, as it is typed."""

    text: str


Block = str | Figures | Table | Plot | Facts | Code
"""A part of a section; a text is a paragraph."""


@dataclasses.dataclass(frozen=True, eq=False)
class Page:
    """A report.

    Attributes:
        title: What it is about.
        summary: A sentence or two below the title.
        sections: Headings and what stands below each.
    """

    title: str
    summary: str
    sections: Sequence[tuple[str, Sequence[Block]]]


def versions() -> dict[str, str]:
    """What a result was made with: packages, Python, and the device."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found | {"devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}"}


def cell_text(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return "–"
    if isinstance(value, float | np.floating | jax.Array):
        return f"{float(value):.5g}"
    return str(value)


def render(page: Page, folder: Path) -> str:
    """The page as HTML; whatever its texts hold is shown, not obeyed.

    Args:
        page: The report.
        folder: Where it will lie: files beside it are named as seen from there.
    """
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{escape(page.title)}</title><style>{CSS}</style></head>\n<body>",
        f"<h1>{escape(page.title)}</h1>\n<p>{escape(page.summary)}</p>",
    ]
    for heading, blocks in page.sections:
        parts.append(f"<h2>{escape(heading)}</h2>")
        parts += [_block(block, folder) for block in blocks]
    return "\n".join([*parts, "</body></html>\n"])


def save_page(path: str | os.PathLike[str], page: Page) -> None:
    """Write a report in one step.

    Raises:
        ArgumentError: The file cannot be written; an old one stays intact.
        ResourceError: The disk is full; an old file stays intact.
    """
    # What is no Unicode in a file's name becomes a question mark.
    write_atomically(path, render(page, Path(path).parent).encode("utf-8", "replace"))


def _block(block: Block, folder: Path) -> str:
    if isinstance(block, str):
        return f"<p>{escape(block)}</p>"
    write: Callable[[Any, Path], str] = WRITERS[type(block)]
    return write(block, folder)


def _figures(block: Figures, folder: Path) -> str:
    inside = "\n".join(_figure(figure, folder) for figure in block.figures)
    least = "100%" if block.wide else "15rem" if len(block.figures) <= 12 else "10rem"
    return f'<div class="figures{" wide" if block.wide else ""}" style="--least: {least}">\n{inside}\n</div>'


def _figure(figure: Figure, folder: Path) -> str:
    caption = f"<figcaption>{escape(figure.caption)}</figcaption>" if figure.caption else ""
    name = escape(figure.name or figure.caption)
    return f'<figure><img {_source(figure.image, folder)} alt="{name}">{caption}</figure>'


def _source(image: Path | Image | np.ndarray | Pillow.Image, folder: Path) -> str:
    if isinstance(image, Path):
        beside = Path(os.path.relpath(image, folder)).as_posix()
        return f'src="{escape(quote(os.fsencode(beside)))}" loading="lazy"'
    shown = image if isinstance(image, Pillow.Image) else _pillow(image)
    if max(shown.size) > MOST_SIDE:
        shown = shown.copy()
        shown.thumbnail((MOST_SIDE, MOST_SIDE), Pillow.Resampling.LANCZOS)
    buffer = BytesIO()
    shown.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'src="data:image/jpeg;base64,{data}" width="{shown.width}" height="{shown.height}"'


def _pillow(image: Image | np.ndarray) -> Pillow.Image:
    values = np.asarray(image)
    return Pillow.fromarray(np.asarray(np.clip(np.nan_to_num(values), 0, 1) * 255 + 0.5, np.uint8))


def _table(block: Table, folder: Path) -> str:
    caption = f"<caption>{escape(block.caption)}</caption>" if block.caption else ""
    header = "".join(f'<th scope="col">{escape(name)}</th>' for name in block.header)
    rows = "\n".join(
        f"<tr>{''.join(f'<td>{escape(cell_text(value))}</td>' for value in row)}</tr>" for row in block.rows
    )
    table = f"<table>{caption}<thead><tr>{header}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"
    return f'<div class="scroll" tabindex="0">{table}</div>'


def _plot(block: Plot, folder: Path) -> str:
    """The legend stands apart from the drawing: its type keeps its size on a phone."""
    names = "\n".join(_name(name, style) for name, style in styles(list(block.curves)).items())
    return f'{curves_svg(block.curves, axis=block.axis, legend=False)}\n<ul class="legend">\n{names}\n</ul>'


def _name(name: str, style: Style) -> str:
    dashes = f' stroke-dasharray="{style.dashes}"' if style.dashes else ""
    line = f'<path stroke="{style.colour}" stroke-width="3"{dashes} d="M0 5h24"/>'
    return f'<li><svg viewBox="0 0 24 10" aria-hidden="true">{line}</svg>{escape(name)}</li>'


def _facts(block: Facts, folder: Path) -> str:
    rows = "\n".join(
        f"<dt>{escape(name)}</dt><dd>{escape(cell_text(value))}</dd>" for name, value in block.facts.items()
    )
    return f"<dl>\n{rows}\n</dl>"


def _code(block: Code, folder: Path) -> str:
    return f"<pre><code>{escape(block.text)}</code></pre>"


WRITERS: dict[type, Callable[[Any, Path], str]] = {
    Figures: _figures,
    Table: _table,
    Plot: _plot,
    Facts: _facts,
    Code: _code,
}
"""How each block is written: the block, and the page's folder."""
