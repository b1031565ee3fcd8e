"""Labels: wrapped, shortened, and of characters that the font has."""

import re
import unicodedata
from collections.abc import Callable
from functools import cache

from PIL import ImageFont

ELLIPSIS = "…"

Measure = Callable[[str], float]
"""The width of a text in pixels."""


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font at a size in pixels."""
    return ImageFont.load_default(size)


def printable(text: str) -> str:
    """The text in ASCII, which is what the font has: accents are left out, other scripts become question marks."""
    plain = (character for character in unicodedata.normalize("NFKD", text) if not unicodedata.combining(character))
    return "".join(character if " " <= character <= "~" or character == "\n" else "?" for character in plain)


def wrap(text: str, width: float, most: int, measure: Measure) -> list[str]:
    """Break a text into lines of at most ``width``, behind ``_-+=,./`` and blanks where that is possible.

    Args:
        text: Line breaks in it are kept.
        width: In pixels.
        most: How many lines there may be; the last one ends with an ellipsis if that is not enough.
        measure: The width of a text.
    """
    lines = [line for paragraph in text.split("\n") for line in _even(_pieces(paragraph), width, measure)]
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1] + ELLIPSIS]
    return [shorten(line, width, measure) for line in lines]


def _pieces(paragraph: str) -> list[str]:
    # A number stays whole: behind its point a line does not end.
    return [piece for piece in re.findall(r"(?:[^_\-+=,./ ]|\.(?=\d))*[_\-+=,./ ]?", paragraph) if piece]


def _even(pieces: list[str], width: float, measure: Measure) -> list[str]:
    """As few lines as the width allows, and these as even as can be."""
    lines = _filled(pieces, width, measure)
    while len(lines) > 1:
        narrower = max(map(measure, lines)) - 1
        again = _filled(pieces, narrower, measure)
        if len(again) > len(lines) or max(map(measure, again)) > narrower:
            break
        lines = again
    return lines


def _filled(pieces: list[str], width: float, measure: Measure) -> list[str]:
    lines, line = [], ""
    for piece in pieces:
        if line and measure((line + piece).rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece
    return [*lines, line.rstrip()]


def shorten(line: str, width: float, measure: Measure) -> str:
    """The line, or as much of its beginning as fits with an ellipsis behind."""
    if measure(line) <= width:
        return line
    kept = line.rstrip(ELLIPSIS)
    while kept and measure(kept + ELLIPSIS) > width:
        kept = kept[:-1]
    return kept + ELLIPSIS
