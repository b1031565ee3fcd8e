"""Labels on contact sheets: wrapped, shortened, and reduced to characters that the font has."""

import re
import unicodedata
from collections.abc import Callable
from functools import cache

from PIL import ImageFont

ELLIPSIS = "…"

Measure = Callable[[str], float]
"""Returns the width of a text in pixels."""


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font at a size in pixels."""
    return ImageFont.load_default(size)


def printable(text: str) -> str:
    """Reduce a text to ASCII, which is what the font has: without accents, other letters as question marks.

    >>> printable("Café Straße")
    'Cafe Stra?e'
    """
    plain = (character for character in unicodedata.normalize("NFKD", text) if not unicodedata.combining(character))
    return "".join(character if " " <= character <= "~" or character == "\n" else "?" for character in plain)


def wrap(text: str, width: float, count: int, measure: Measure) -> list[str]:
    """Wrap a text, after spaces and any of ``_-+=,./`` where possible, into lines of about the same width.

    Unlike `textwrap`, this measures pixels and breaks file names.

    Args:
        text: Its line breaks are kept.
        width: The most that a line may measure.
        count: The most lines. If there are more, the last one ends with an ellipsis.
        measure: Returns the width of a text.

    >>> wrap("style_weight=100", 13, 3, len)
    ['style_', 'weight=100']
    """
    lines = [line for paragraph in text.split("\n") for line in _balance(_pieces(paragraph), width, measure)]
    if len(lines) > count:
        lines = [*lines[: count - 1], lines[count - 1] + ELLIPSIS]
    return [_shorten(line, width, measure) for line in lines]


def _pieces(paragraph: str) -> list[str]:
    # A decimal point does not end a piece, so that numbers stay whole.
    return [piece for piece in re.findall(r"(?:[^_\-+=,./ ]|\.(?=\d))*[_\-+=,./ ]?", paragraph) if piece]


def _balance(pieces: list[str], width: float, measure: Measure) -> list[str]:
    """Fill as few lines as possible, then narrow them as long as their number does not grow."""
    lines = _fill(pieces, width, measure)
    while len(lines) > 1:
        narrower = max(map(measure, lines)) - 1
        again = _fill(pieces, narrower, measure)
        if len(again) > len(lines) or max(map(measure, again)) > narrower:
            break
        lines = again
    return lines


def _fill(pieces: list[str], width: float, measure: Measure) -> list[str]:
    lines, line = [], ""
    for piece in pieces:
        if line and measure((line + piece).rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece
    return [*lines, line.rstrip()]


def _shorten(line: str, width: float, measure: Measure) -> str:
    """Cut a line that is too wide, and mark that with an ellipsis."""
    if measure(line) <= width:
        return line
    kept = line.rstrip(ELLIPSIS)
    while kept and measure(kept + ELLIPSIS) > width:
        kept = kept[:-1]
    return kept + ELLIPSIS
