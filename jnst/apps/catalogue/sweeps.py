"""Settings by name and value, as sweeps and manifests give them: in text or in JSON."""

import contextlib
import typing
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from jnst.apps.io.load import ROUNDINGS
from jnst.apps.io.sizes import result_size
from jnst.backbones import Backbone
from jnst.errors import ArgumentError, JnstError, hint
from jnst.images import METHODS, SHARP
from jnst.presets import MEASURES, Preset, preset
from jnst.presets.overrides import PARTS
from jnst.transfer.plan import make_plan

Changes = tuple[tuple[str, Any], ...]
"""Settings and their values, in the order in which they were given."""

AUTO = "auto"
"""The text for None: a value that jnst chooses."""

CHOICES: dict[str, Iterable[str]] = {
    "enlarge": (*METHODS, SHARP),
    "measure": MEASURES,
    "resample": METHODS,
    "rounding": ROUNDINGS,
}
"""The values of settings that nothing else checks before images are read."""

ALIASES = {"steps": "num_steps"}
"""Names of the command line's flags, where they differ from the setting's."""


class Sweep(NamedTuple):
    """A setting and the values it takes."""

    name: str
    values: tuple[Any, ...]


class _Kind(NamedTuple):
    """A type of value: its description, and a function that converts a value or raises `ValueError`."""

    expected: str
    convert: Callable[[Any], Any]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    return float(value)


def _integer(value: Any) -> int:
    number = _number(value)
    if not number.is_integer():
        raise ValueError
    return int(number)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _seed(value: Any) -> int:
    if not 0 <= _integer(value) < 2**32:
        raise ValueError
    return _integer(value)


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _tuple_of(convert: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda value: tuple(convert(part) for part in (value if isinstance(value, list | tuple) else [value]))


_KINDS: dict[Any, _Kind] = {
    bool: _Kind("true or false", _boolean),
    float: _Kind("a number", _number),
    int: _Kind("a whole number", _integer),
    str: _Kind("a name", _name),
    tuple[float, ...]: _Kind("numbers", _tuple_of(_number)),
    tuple[int, ...]: _Kind("whole numbers", _tuple_of(_integer)),
    tuple[str, ...]: _Kind("names of layers", _tuple_of(_name)),
}


def _optional(kind: _Kind) -> _Kind:
    return _Kind(f"{kind.expected} or {AUTO}", lambda value: None if value is None else kind.convert(value))


def _known_settings() -> dict[str, _Kind]:
    """The fields of a preset's parts that text and JSON can express, and the settings that build the others."""
    known = {}
    for part in PARTS:
        for name, annotation in typing.get_type_hints(typing.get_type_hints(Preset)[part]).items():
            members = [member for member in typing.get_args(annotation) if member is not type(None)]
            optional = len(members) == 1 and annotation == members[0] | None
            kind = _KINDS.get(members[0] if optional else annotation)
            if kind is not None and name != "weights":  # which states where the numbers come from
                known[name] = _optional(kind) if optional else kind
    return known | {
        "clamp": _KINDS[bool],
        "keep_color": _optional(_KINDS[str]),
        "learning_rate": _KINDS[float],
        "min_size": _KINDS[int],
        "optimizer": _KINDS[str],
        "pyramid": _KINDS[bool],
        "seamless": _optional(_KINDS[str]),
        "seed": _Kind(f"a whole number from 0 to {2**32 - 1}", _seed),
        "style_statistic": _KINDS[str],
    }


SETTINGS: dict[str, _Kind] = _known_settings()
"""What can be swept, and what the lines of a manifest can set."""


def check_change(name: str, value: Any) -> tuple[str, Any]:
    """Return a setting's name and its value in the type that `jnst.preset` expects.

    Args:
        name: A key of `SETTINGS` or `ALIASES`.
        value: A number, a string, a boolean, None for "auto", or a list of numbers or strings.

    Raises:
        ArgumentError: There is no such setting, or the value has another type.

    >>> check_change("steps", 50)
    ('num_steps', (50,))
    """
    setting = ALIASES.get(name, name)
    if setting not in SETTINGS:
        raise ArgumentError(f"there is no setting {name!r}: {hint(name, (*SETTINGS, *ALIASES))}")
    kind = SETTINGS[setting]
    try:
        converted = kind.convert(value)
    except (ValueError, OverflowError):
        raise ArgumentError(f"{name} is {value!r}: expected {kind.expected}") from None
    if setting in CHOICES and converted not in CHOICES[setting]:
        raise ArgumentError(f"{name} is {value!r}: {hint(converted, CHOICES[setting])}")
    return setting, converted


def parse_sweep(text: str) -> Sweep:
    """Parse ``NAME=VALUE,VALUE,...``. Values that are lists are written with plus signs: ``num_steps=100+60,200``.

    Raises:
        ArgumentError: The text has another form, the setting is unknown, or a value has another type or is repeated.
    """
    name, equals, values = text.partition("=")
    if not equals or not values:
        raise ArgumentError(f"--sweep {text}: expected a setting and its values, such as style_weight=1e2,1e3,1e4")
    try:
        changes = [check_change(name.strip(), _parse_value(value)) for value in values.split(",")]
    except JnstError as error:
        raise ArgumentError(f"--sweep {text}: {error}") from None
    sweep = Sweep(changes[0][0], tuple(value for _, value in changes))
    if len(set(sweep.values)) < len(sweep.values):
        raise ArgumentError(f"--sweep {text}: a value occurs twice, give each value once")
    return sweep


def parse_sweeps(texts: Iterable[str]) -> tuple[Sweep, ...]:
    """Parse several sweeps.

    Raises:
        ArgumentError: As for `parse_sweep`, or a setting is swept twice.
    """
    sweeps = tuple(parse_sweep(text) for text in texts)
    names = [sweep.name for sweep in sweeps]
    for name in names:
        if names.count(name) > 1:
            raise ArgumentError(f"--sweep {name} is given twice: give all values in one, such as {name}=A,B,C")
    return sweeps


def _parse_value(text: str) -> Any:
    text = text.strip()
    words = {"true": True, "false": False, AUTO: None}
    if text in words:
        return words[text]
    for convert in (int, float):
        with contextlib.suppress(ValueError):
            return convert(text)
    # Only after numbers: 1e+2 is one.
    return [_parse_value(part) for part in text.split("+")] if "+" in text else text


def value_text(value: Any) -> str:
    """A value as `parse_sweep` reads it, as short as possible."""
    if isinstance(value, tuple):
        return "+".join(map(value_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    return AUTO if value is None else str(value)


def apply_changes(settings: Preset, changes: Changes, backbone: Backbone) -> Preset:
    """Return the settings with changes, checked against the network before any image is read.

    Args:
        settings: The catalogue's settings.
        changes: From `check_change`. The seed is not part of a preset and is ignored.
        backbone: The network.

    Raises:
        ArgumentError: The settings cannot be used.
        WeightsError: A layer is beyond the end of the weights.
    """
    settings = preset(settings, **{name: value for name, value in changes if name != "seed"})
    size = settings.loading.size
    if size < 1:
        raise ArgumentError(f"size {size}: expected the longer side in pixels, at least 1")
    make_plan(settings, backbone, (size, size), size=result_size(settings))
    return settings
