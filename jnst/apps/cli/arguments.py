"""Argument types that tyro lacks: comma-separated lists, and values that are chosen automatically."""

from collections.abc import Callable
from typing import Annotated, Any

import tyro
from PIL import ImageColor
from tyro.constructors import PrimitiveConstructorSpec

from jnst.errors import ArgumentError

AUTO = "auto"
"""None on the command line."""


def optional(metavar: str) -> Any:
    """Annotate a flag that has no value unless it is given."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="(default: none)")


def _list_of(convert: Callable[[str], Any], metavar: str) -> PrimitiveConstructorSpec:
    def read(args: list[str]) -> tuple[Any, ...] | None:
        return None if args[0] == AUTO else tuple(convert(part.strip()) for part in args[0].split(","))

    def show(values: tuple[Any, ...] | None) -> list[str]:
        return [AUTO if values is None else ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)]

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=read,
        is_instance=lambda value: value is None or isinstance(value, tuple),
        str_from_instance=show,
    )


def _value_of(convert: Callable[[str], Any], metavar: str) -> PrimitiveConstructorSpec:
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda args: None if args[0] == AUTO else convert(args[0]),
        is_instance=lambda value: value is None or isinstance(value, int | float | str),
        str_from_instance=lambda value: [AUTO if value is None else str(value)],
    )


def parse_colour(text: str) -> tuple[float, float, float]:
    """The sRGB values in [0, 1] of a colour, as in CSS: ``black``, ``#ff8000``, ``rgb(255, 128, 0)``.

    Raises:
        ArgumentError: There is no such colour.
    """
    try:
        values = ImageColor.getrgb(text)
    except ValueError:
        values = ()
    if len(values) != 3:
        raise ArgumentError(f"--background {text}: expected an opaque colour, such as black or #ff8000")
    return values[0] / 255, values[1] / 255, values[2] / 255


Names = Annotated[tuple[str, ...] | None, _list_of(str, "A,B,...")]
Numbers = Annotated[tuple[float, ...] | None, _list_of(float, "X,Y,...")]
Counts = Annotated[tuple[int, ...], _list_of(int, "N[,N...]")]
Count = Annotated[int | None, _value_of(int, "N")]
Number = Annotated[float | None, _value_of(float, "X")]
Text = Annotated[str | None, _value_of(str, "NAME")]
