"""Functions as pytrees: what they close over becomes leaves, their code becomes hashable structure.

`optax.adam(0.02)` is a pair of new closures at every call. As static arguments of `jax.jit` they would compile a new
program each time. Split by `split`, two of them differ only in their leaves: the learning rate.
"""

import functools
import types
from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import numpy as np


class Structure:
    """What `split` leaves besides the leaves: hashable, and equal for equal code."""

    def __init__(self, tree: Any) -> None:
        self.tree, self._hash = tree, hash(tree)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Structure) and self.tree == other.tree)

    def __hash__(self) -> int:
        return self._hash


class _Leaf(NamedTuple):
    """The place of a leaf."""


class _Constant(NamedTuple):
    value: Hashable


class _Node(NamedTuple):
    structure: Any
    children: tuple[Any, ...]


class _Partial(NamedTuple):
    parts: Any


class _Method(NamedTuple):
    function: Any
    owner: Any


class _Function:
    """A function without what it closes over. Two are equal if they have the same code and read the same globals."""

    def __init__(self, function: types.FunctionType, cells: tuple[Any, ...], defaults: Any) -> None:
        self.cells, self.defaults = cells, defaults
        self._code, self._globals, self._name = function.__code__, function.__globals__, function.__name__
        known = {name: self._globals[name] for name in _names(self._code) if name in self._globals}
        named = tuple((name, _Identity(value)) for name, value in known.items())
        self._key = (function.__code__, id(function.__globals__), named, cells, defaults)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Function) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def build(self, cells: tuple[Any, ...], defaults: Any) -> types.FunctionType:
        closure = tuple(map(types.CellType, cells))
        positional, keywords = defaults
        function = types.FunctionType(self._code, self._globals, self._name, positional, closure)
        function.__kwdefaults__ = dict(keywords)
        return function


class _Identity:
    """An object that is compared by its identity."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def split(value: Any, *, floats: bool) -> tuple[list[Any], Structure]:
    """Split functions, and pytrees that contain functions, into numeric leaves and hashable structure.

    Args:
        value: Functions, partial functions, bound methods, pytrees of these such as an `optax.GradientTransformation`,
            arrays, numbers, and hashable objects.
        floats: Whether Python floats are leaves, like arrays, or part of the structure.

    Returns:
        The leaves, and a structure that is equal for values with the same code. `join` puts them together again.
    """
    leaves: list[Any] = []
    return leaves, Structure(_split(value, leaves, floats, frozenset()))


def join(leaves: list[Any], structure: Structure) -> Any:
    """The inverse of `split`."""
    return _join(structure.tree, iter(leaves))


def _split(value: Any, leaves: list[Any], floats: bool, above: frozenset[int]) -> Any:
    if isinstance(value, jax.Array | np.ndarray | np.generic) or (floats and type(value) in (float, complex)):
        leaves.append(value)
        return _Leaf()
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return _Constant((type(value), value))
    if id(value) in above:  # a function that refers to itself
        return _Constant((None, _Identity(value)))
    inside = above | {id(value)}

    def inner(part: Any) -> Any:
        return _split(part, leaves, floats, inside)

    if isinstance(value, types.FunctionType):
        cells = tuple(inner(_content(cell)) for cell in value.__closure__ or ())
        return _Function(value, cells, (inner(value.__defaults__), inner(tuple((value.__kwdefaults__ or {}).items()))))
    if isinstance(value, types.MethodType):
        return _Method(inner(value.__func__), inner(value.__self__))
    if type(value) is functools.partial:
        return _Partial(inner((value.func, value.args, tuple(value.keywords.items()))))
    children, structure = jax.tree.flatten(value, is_leaf=lambda part: part is not value)
    if len(children) != 1 or children[0] is not value:
        return _Node(structure, tuple(map(inner, children)))
    try:
        hash(value)
    except TypeError:
        value = _Identity(value)
    return _Constant((None, value))


@functools.cache
def _names(code: types.CodeType) -> tuple[str, ...]:
    """The global names that a function and the functions within it may read."""
    inner = (name for each in code.co_consts if isinstance(each, types.CodeType) for name in _names(each))
    return tuple(dict.fromkeys((*code.co_names, *inner)))


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _join(tree: Any, leaves: Any) -> Any:
    match tree:
        case _Leaf():
            return next(leaves)
        case _Constant((_, value)):
            return value.value if isinstance(value, _Identity) else value
        case _Function():
            cells = tuple(_join(cell, leaves) for cell in tree.cells)
            positional, keywords = (_join(part, leaves) for part in tree.defaults)
            return tree.build(cells, (positional, keywords))
        case _Method(function, owner):
            return types.MethodType(_join(function, leaves), _join(owner, leaves))
        case _Partial(parts):
            function, arguments, keywords = _join(parts, leaves)
            return functools.partial(function, *arguments, **dict(keywords))
        case _Node(structure, children):
            return jax.tree.unflatten(structure, [_join(child, leaves) for child in children])
    raise AssertionError(tree)
