"""Settings by name and value, as sweeps and manifests give them: as text, or as JSON."""

import contextlib
import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from jnst.apps.io.load import ROUNDINGS
from jnst.apps.io.readings import result_size
from jnst.backbones import Backbone
from jnst.backbones.ops import PADDINGS, POOLINGS
from jnst.errors import ArgumentError, JnstError, hint
from jnst.images import METHODS, SHARP, Pyramid
from jnst.images.keep_colour import KEEP_COLOUR
from jnst.losses import STYLE_LOSSES
from jnst.presets import MEASURES, Preset, with_style_statistic
from jnst.presets.optimizer import with_optimizer
from jnst.solve.optimizers import OPTIMIZERS
from jnst.transfer.inputs import INITS
from jnst.transfer.plan import make_plan
from jnst.transfer.variations import vary

Changes = tuple[tuple[str, Any], ...]
"""Settings and their values, in the order in which they were given."""

AUTO = "auto"
"""The value of a setting that is worked out."""

CHOICES: dict[str, Iterable[str]] = {
    "enlarge": (*METHODS, SHARP),
    "init": INITS,
    "input_padding": PADDINGS,
    "keep_color": KEEP_COLOUR,
    "measure": MEASURES,
    "optimizer": OPTIMIZERS,
    "padding": PADDINGS,
    "pooling": POOLINGS,
    "resample": METHODS,
    "rounding": ROUNDINGS,
    "style_statistic": STYLE_LOSSES,
}
"""The values of the settings that are names."""

NOT_SETTINGS = ("summary", "source", "weights")
"""The fields of `Preset` that say where it comes from."""

OTHER_NAMES = {"steps": "num_steps"}
"""As the command line calls it."""


class Sweep(NamedTuple):
    """A setting, and the values that it goes through."""

    name: str
    values: tuple[Any, ...]


class _Kind(NamedTuple):
    """A type of value: what it is called, and a function that returns a value of it or raises a `ValueError`."""

    expected: str
    convert: Callable[[Any], Any]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    return float(value)


def _whole(value: Any) -> int:
    number = _number(value)
    if not number.is_integer():
        raise ValueError
    return int(number)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _seed(value: Any) -> int:
    if not 0 <= _whole(value) < 2**32:
        raise ValueError
    return _whole(value)


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _several(convert: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda value: tuple(convert(part) for part in (value if isinstance(value, list | tuple) else [value]))


_KINDS: dict[Any, _Kind] = {
    bool: _Kind("true or false", _switch),
    float: _Kind("a number", _number),
    int: _Kind("a whole number", _whole),
    str: _Kind("a name", _name),
    tuple[float, ...]: _Kind("numbers", _several(_number)),
    tuple[int, ...]: _Kind("whole numbers", _several(_whole)),
    tuple[str, ...]: _Kind("names of layers", _several(_name)),
}


def _known() -> dict[str, _Kind]:
    """The settings that text and JSON can give; what a `Preset` holds besides is built from these, or fixed."""
    known = {}
    for name, kind in typing.get_type_hints(Preset).items():
        some = [part for part in typing.get_args(kind) if part is not type(None)]
        optional = len(some) == 1 and kind == some[0] | None
        plain = _KINDS.get(some[0] if optional else kind)
        if plain is not None and name not in NOT_SETTINGS:
            known[name] = _or_auto(plain) if optional else plain
    return known | {
        "learning_rate": _KINDS[float],
        "optimizer": _KINDS[str],
        "pyramid": _KINDS[bool],
        "seed": _Kind(f"a whole number from 0 to {2**32 - 1}", _seed),
        "style_statistic": _KINDS[str],
    }


def _or_auto(kind: _Kind) -> _Kind:
    return _Kind(f"{kind.expected} or {AUTO}", lambda value: None if value is None else kind.convert(value))


SETTINGS: dict[str, _Kind] = _known()
"""What can be swept, and what a manifest's lines can give."""


def check_change(name: str, value: Any) -> tuple[str, Any]:
    """A setting's own name, and its value as `Preset` wants it.

    Args:
        name: A key of `SETTINGS` or `OTHER_NAMES`.
        value: A number, a string, a boolean, None for what is worked out, or a list of numbers or strings.

    Raises:
        ArgumentError: No such setting, or a value of another kind.
    """
    setting = OTHER_NAMES.get(name, name)
    if setting not in SETTINGS:
        raise ArgumentError(f"there is no setting {name!r}: {hint(name, (*SETTINGS, *OTHER_NAMES))}")
    kind = SETTINGS[setting]
    try:
        converted = kind.convert(value)
    except (ValueError, OverflowError):
        raise ArgumentError(f"{name} is {value!r}: expected {kind.expected}") from None
    if converted is not None and setting in CHOICES and converted not in CHOICES[setting]:
        raise ArgumentError(f"{name} is {value!r}: {hint(converted, CHOICES[setting])}")
    return setting, converted


def parse_sweep(text: str) -> Sweep:
    """Read ``NAME=VALUE,VALUE,...``; a value that is itself a list has plus signs between its parts.

    Raises:
        ArgumentError: Another form, an unknown setting, a value of another kind, or one given twice.
    """
    name, equals, values = text.partition("=")
    if not equals or not values:
        raise ArgumentError(f"--sweep {text}: expected a setting and its values, such as style_weight=1e2,1e3,1e4")
    try:
        changes = [check_change(name.strip(), _literal(value)) for value in values.split(",")]
    except JnstError as error:
        raise ArgumentError(f"--sweep {text}: {error}") from None
    sweep = Sweep(changes[0][0], tuple(value for _, value in changes))
    if len(set(sweep.values)) < len(sweep.values):
        raise ArgumentError(f"--sweep {text}: a value is there twice, give each once")
    return sweep


def parse_sweeps(texts: Iterable[str]) -> tuple[Sweep, ...]:
    """Read several of `parse_sweep`'s.

    Raises:
        ArgumentError: As `parse_sweep`, or two of one setting.
    """
    sweeps = tuple(parse_sweep(text) for text in texts)
    names = [sweep.name for sweep in sweeps]
    for name in names:
        if names.count(name) > 1:
            raise ArgumentError(f"--sweep {name} is there twice: give all its values in one, such as {name}=A,B,C")
    return sweeps


def _literal(text: str) -> Any:
    """What a value of a sweep means: a list, a boolean, None, a number, else a name."""
    text = text.strip()
    words = {"true": True, "false": False, AUTO: None}
    if text in words:
        return words[text]
    for convert in (int, float):
        with contextlib.suppress(ValueError):
            return convert(text)
    # Only now: 1e+2 is a number.
    return [_literal(part) for part in text.split("+")] if "+" in text else text


def in_words(value: Any) -> str:
    """A value as `parse_sweep` reads it, as short as it can be."""
    if isinstance(value, tuple):
        return "+".join(map(in_words, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    return AUTO if value is None else str(value)


def settle(settings: Preset, changes: Mapping[str, Any]) -> Preset:
    """The settings with changes put in: first the style statistic and the optimiser, each with what it brings along.

    Args:
        settings: A preset.
        changes: As `check_change` returns them; ``seed`` is no part of a preset and is passed over.

    Raises:
        ArgumentError: As `jnst.transfer.variations.vary`.
    """
    rest = dict(changes)
    if "style_statistic" in rest:
        settings = with_style_statistic(settings, rest.pop("style_statistic"))
    if "optimizer" in rest:
        settings = with_optimizer(settings, rest.pop("optimizer"))
    if "pyramid" in rest:
        pyramid = (settings.pyramid or Pyramid()) if rest.pop("pyramid") else None
        settings = dataclasses.replace(settings, pyramid=pyramid)
    if rest.get("average"):
        rest.setdefault("keep_best", False)
    return vary(settings, rest)


class Settled:
    """Settings under changes, checked against a network before any image is read; each combination once.

    Args:
        settings: Without changes.
        backbone: The network.
        fixed: Settings that must not change, and why not.
    """

    def __init__(self, settings: Preset, backbone: Backbone, fixed: Mapping[str, str]) -> None:
        self._settings, self._backbone, self._fixed = settings, backbone, fixed
        self._known: dict[Changes, Preset] = {}

    def __call__(self, changes: Changes) -> Preset:
        """The settings under these changes.

        Raises:
            ArgumentError: They make no sense, or may not change.
            WeightsError: A layer beyond the weights.
        """
        if changes not in self._known:
            for name, _ in changes:
                if name in self._fixed:
                    raise ArgumentError(self._fixed[name])
            settings = settle(self._settings, dict(changes))
            if settings.size < 1:
                raise ArgumentError(f"size {settings.size}: expected the longer side in pixels, at least 1")
            make_plan(settings, self._backbone, (settings.size, settings.size), size=result_size(settings))
            self._known[changes] = settings
        return self._known[changes]
