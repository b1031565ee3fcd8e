"""Losses over the steps of a run on a logarithmic axis, drawn by matplotlib as SVG."""

import io
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

Curves = Mapping[str, Sequence[float] | np.ndarray]
"""One value for each step, by name. Values that are not positive or not finite leave a gap."""

TOTAL = "total"
"""This curve is drawn in black."""
SPAN = 1e5
"""The largest ratio between the ends of the axis, so that a term that starts near zero does not flatten the others."""
WIDTH, HEIGHT, LEGEND_ROW = 4.4, 2.9, 0.2
"""The size of the drawing, and the height of each row of the legend, in inches. Text of 10 points stays readable where
a phone reduces the drawing to its width."""
MAX_NAME, SHORT_NAME = 24, 12
"""Longer names are cut in the legend; if all are short, it has three columns instead of two."""


def curves_svg(curves: Curves, *, axis: str = "step") -> str:
    """Draw curves as an SVG document without a background, whose text consists of outlines and so needs no font.

    Args:
        curves: At least one.
        axis: The label of the horizontal axis, on which the first value is at 1.
    """
    # Imported here, because nothing else needs matplotlib, which takes half a second.
    from matplotlib import style
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    positive = {name: _positive(values) for name, values in curves.items()}
    columns = 3 if max(map(len, curves)) <= SHORT_NAME else 2
    height = HEIGHT + LEGEND_ROW * -(-len(curves) // columns)
    # The user's own matplotlib settings stay out of it; equal curves give equal files.
    with style.context(["default", {"svg.hashsalt": "jnst"}]):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots()
        looks = itertools.cycle(itertools.product(("-", "--", ":"), [f"C{number}" for number in range(10)]))
        for name, values in positive.items():
            dashes, colour = ("-", "black") if name == TOTAL else next(looks)
            short = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
            marker = "." if np.isfinite(values).sum() == 1 else None
            axes.plot(np.arange(1, len(values) + 1), values, label=short, marker=marker, linestyle=dashes, color=colour)
        axes.set_xlabel(axis, parse_math=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        every = np.concatenate([values[np.isfinite(values)] for values in positive.values()])
        if len(every):
            axes.set_yscale("log")
            axes.set_ylim(bottom=max(axes.get_ylim()[0], every.max() / SPAN))
        else:
            axes.text(0.5, 0.5, "no positive values", ha="center", transform=axes.transAxes)
        legend = figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
        for text in legend.get_texts():
            text.set_parse_math(False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _positive(values: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(values, np.float64)
    return np.where(np.isfinite(array) & (array > 0), array, np.nan)
