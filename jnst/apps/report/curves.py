"""Curves over the steps of a run on a logarithmic axis, drawn as SVG, or by matplotlib as PNG or PDF."""

import importlib.util
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jnst.apps.report.axes import log_marks, mark_text, marks
from jnst.errors import ArgumentError
from jnst.weights.files import write_atomically

Curves = Mapping[str, Sequence[float] | np.ndarray]
"""By name, a value for every step. On a logarithmic axis what is not positive and finite is a gap."""

SUFFIXES = (".png", ".pdf", ".svg")
DOTS_PER_INCH = 150
WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 76, 30, 12, 46
LEGEND_LINE = 20
PALETTE = ("#0f7fc4", "#d9541e", "#189a5c", "#b653b4", "#c28a00", "#5a6fd6", "#12999b", "#d23c62", "#7d8a12", "#8a6d57")
"""Readable on white and on black."""
DASHES = ("", "7 4", "2 3")
TOTAL = "total"
"""The curve that is drawn in the colour of the text."""
SPAN = 1e5
"""The highest value over the lowest of an axis at most: what starts near zero must not flatten all else."""
MOST_POINTS = 400
"""Of a curve's two ends in every slice: no peak is lost."""


class Style(NamedTuple):
    """How a curve is drawn: any CSS colour, and SVG's dashes."""

    colour: str
    dashes: str = ""


def styles(names: Sequence[str]) -> dict[str, Style]:
    """How each curve is drawn: no two alike as long as there are at most 30."""
    others = [name for name in names if name != TOTAL]
    found = {
        name: Style(PALETTE[number % len(PALETTE)], DASHES[number // len(PALETTE) % len(DASHES)])
        for number, name in enumerate(others)
    }
    return {name: found.get(name, Style("currentColor")) for name in names}


class Frame(NamedTuple):
    """From steps and values to places in an image of `WIDTH` by `HEIGHT`.

    Attributes:
        steps: The first and the last step.
        values: The smallest and the largest value of the axis.
    """

    steps: tuple[float, float]
    values: tuple[float, float]

    def x(self, step: float) -> float:
        """Where a step is."""
        first, last = self.steps
        return LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Where a positive value is; one below the axis lies on its floor."""
        low, high = map(math.log, self.values)
        return TOP + (high - max(low, math.log(value))) / (high - low) * (HEIGHT - TOP - BOTTOM)


def frame(curves: Curves, first: int) -> Frame | None:
    """The axes for curves; None if nothing in them is positive."""
    shown = [values[_is_shown(values)] for values in map(_array, curves.values())]
    positive = np.concatenate([*shown, np.zeros(0)])
    if not len(positive):
        return None
    high = float(positive.max())
    low = max(float(positive.min()), high / SPAN)
    room = max((high / low) ** 0.04, 1.02)
    length = max(map(len, curves.values()))
    return Frame((first, max(first + length - 1, first + 1)), (low / room, high * room))


def _array(values: Sequence[float] | np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float64)


def _is_shown(values: np.ndarray) -> np.ndarray:
    return np.isfinite(values) & (values > 0)


def curves_svg(curves: Curves, *, first: int = 1, axis: str = "step", legend: bool = True) -> str:
    """Draw curves as an ``<svg>`` element that needs nothing else: no script, no font, no style sheet.

    The text has the colour of what surrounds it, so that the drawing suits light and dark pages.

    Args:
        curves: At least one; `TOTAL` is drawn in the colour of the text. Of many steps the extremes of short slices are
            drawn.
        first: The number of the first step.
        axis: What steps are.
        legend: Whether the names stand below; they are on the curves in any case, as titles.
    """
    drawn = styles(list(curves))
    height = HEIGHT + (LEGEND_LINE * -(-len(curves) // 3) + 6 if legend else 0)
    label = escape(f"{', '.join(curves)} over {axis}")
    parts = [
        f'<svg class="curves" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{label}" font-family="system-ui, sans-serif" font-size="13">'
    ]
    places = frame(curves, first)
    if places is None:
        parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">no positive values</text>')
    else:
        parts += _axes(places, axis)
        for name, values in curves.items():
            style = drawn[name]
            dashes = f' stroke-dasharray="{style.dashes}"' if style.dashes else ""
            parts.append(
                f'<path class="curve" fill="none" stroke="{style.colour}"{dashes} stroke-width="1.8" '
                f'stroke-linejoin="round" d="{_path(places, values, first)}"><title>{escape(name)}</title></path>'
            )
    return "".join([*parts, *(_legend(drawn) if legend else ()), "</svg>"])


def _axes(places: Frame, axis: str) -> Iterator[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for value in log_marks(*places.values):
        y = places.y(value)
        yield f'<path stroke="currentColor" stroke-opacity=".16" d="M{LEFT} {y:.2f}H{right}"/>'
        yield _text("value", LEFT - 8, y, "end", mark_text(value), ' dominant-baseline="central"')
    for step in marks(*places.steps):
        x = places.x(step)
        if step == round(step):
            yield f'<path stroke="currentColor" stroke-opacity=".5" d="M{x:.2f} {bottom}v5"/>'
            yield _text("step", x, bottom + 20, "middle", f"{step:g}")
    yield f'<path fill="none" stroke="currentColor" stroke-opacity=".5" d="M{LEFT} {TOP}V{bottom}H{right}"/>'
    yield _text("axis", (LEFT + right) / 2, HEIGHT - 6, "middle", axis)


def _text(kind: str, x: float, y: float, anchor: str, text: str, more: str = "") -> str:
    return (
        f'<text class="{kind}" x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}" fill="currentColor"{more}>'
        f"{escape(text)}</text>"
    )


def _legend(drawn: Mapping[str, Style]) -> Iterator[str]:
    width = (WIDTH - LEFT - RIGHT) / 3
    for number, (name, style) in enumerate(drawn.items()):
        x, y = LEFT + number % 3 * width, HEIGHT + LEGEND_LINE * (number // 3 + 0.5)
        dashes = f' stroke-dasharray="{style.dashes}"' if style.dashes else ""
        yield f'<path stroke="{style.colour}" stroke-width="3"{dashes} d="M{x:.0f} {y:.0f}h22"/>'
        short = name if len(name) <= 20 else f"{name[:19]}…"
        yield _text("name", x + 28, y, "start", short, ' dominant-baseline="central"')


def _path(places: Frame, values: Sequence[float] | np.ndarray, first: int) -> str:
    """The curve as SVG's path data; it begins anew behind every gap."""
    array = _array(values)
    pieces, before, last = [], -1, -1
    gaps = np.cumsum(~_is_shown(array))
    for index in _indices(array):
        begun = last < 0 or gaps[index] != before
        pieces.append(f"{'M' if begun else 'L'}{places.x(first + index):.2f} {places.y(array[index]):.2f}")
        before, last = gaps[index], index
    return "".join(pieces)


def _indices(values: np.ndarray) -> list[int]:
    """The steps that are drawn: all, or of every slice the lowest and the highest, and the ends."""
    shown = np.flatnonzero(_is_shown(values))
    if len(shown) <= 2 * MOST_POINTS:
        return shown.tolist()
    kept = {int(shown[0]), int(shown[-1])}
    for part in np.array_split(shown, MOST_POINTS):
        kept |= {int(part[np.argmin(values[part])]), int(part[np.argmax(values[part])])}
    return sorted(kept)


def check_curves(path: str | os.PathLike[str]) -> None:
    """Fail before a run if its curves could not be drawn under this name.

    Raises:
        ArgumentError: The suffix is none of `SUFFIXES`, or matplotlib is needed and not installed.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ArgumentError(f"curves '{os.fspath(path)}': expected a name that ends in {', '.join(SUFFIXES)}; rename it")
    if suffix != ".svg" and importlib.util.find_spec("matplotlib") is None:
        raise ArgumentError(
            f"curves '{os.fspath(path)}' need matplotlib, which is not installed: pip install jnst[plots], or name a "
            ".svg file"
        )


def save_curves(path: str | os.PathLike[str], curves: Curves, *, first: int = 1, axis: str = "step") -> None:
    """Draw curves into a file: ``.svg`` by `curves_svg`, ``.png`` and ``.pdf`` by matplotlib (the extra ``plots``).

    Args:
        path: The file, which is replaced as a whole; its suffix, one of `SUFFIXES`, says the format.
        curves: See `curves_svg`, like what follows.
        first: The number of the first step.
        axis: What steps are.

    Raises:
        ArgumentError: As `check_curves`, or the file cannot be written.
    """
    check_curves(path)
    suffix = Path(path).suffix.lower()
    data = (
        curves_svg(curves, first=first, axis=axis).encode() if suffix == ".svg" else _plot(curves, first, axis, suffix)
    )
    write_atomically(path, data)


def _plot(curves: Curves, first: int, axis: str, suffix: str) -> bytes:
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

    figure = Figure(figsize=(8, 4), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    for name, style in styles(list(curves)).items():
        values = _array(curves[name])
        shown = np.where(_is_shown(values), values, np.nan)
        colour = "black" if style.colour == "currentColor" else style.colour
        dashes = (0, tuple(map(float, style.dashes.split()))) if style.dashes else "solid"
        axes.plot(np.arange(first, first + len(values)), shown, color=colour, linestyle=dashes, label=name)
    axes.set_yscale("log")
    places = frame(curves, first)
    if places is not None:
        axes.set_ylim(*places.values)
    axes.set_xlabel(axis)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", ncols=2)
    buffer = BytesIO()
    figure.savefig(buffer, format=suffix[1:])
    return buffer.getvalue()
