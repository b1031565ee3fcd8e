"""Converting a published checkpoint to a network's parameters. Pure functions."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from jnst.backbones import Preprocessing, param_shapes
from jnst.errors import WeightsError
from jnst.weights.checksum import KEY, checksum
from jnst.weights.formats import Tensors
from jnst.weights.formats.tensors import one_line
from jnst.weights.layouts import KERNEL_AXES, NATIVE_FORMAT, NATIVE_VERSION, VGGS, Layout, find_layout
from jnst.weights.registry import where_to_get

PARTIAL = VGGS
"""Architectures whose weights may end early: after any layer, but without gaps."""


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """A network's parameters and what is known about them.

    Attributes:
        architecture: A key of `jnst.backbones.BACKBONES`.
        params: float32 arrays by flat name (``conv1_1/kernel``), in order of depth, kernels in HWIO order. For a VGG,
            there may be only the first layers.
        preprocessing: The preprocessing that the network was trained with.
        training: Who trained the network ("oxford", "torchvision", "caffe", "lpips", "distilled", …).
        source: The file and layout that the parameters come from.
        licence: An SPDX licence expression.
        options: Keyword arguments of the network (``{"padding": "reflect"}``).
    """

    architecture: str
    params: Mapping[str, np.ndarray]
    preprocessing: Preprocessing
    training: str
    source: str
    licence: str
    options: Mapping[str, str | bool] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Fit:
    """How well the tensors fit an architecture.

    Attributes:
        architecture: A key of `jnst.backbones.BACKBONES`.
        renamed: The tensors' names by the flat names of parameters.
        unknown: The tensors that fit no rule of the layout.
        missing: The flat names of missing parameters.
    """

    architecture: str
    renamed: dict[str, str]
    unknown: list[str]
    missing: list[str]

    @property
    def faults(self) -> tuple[int, int]:
        return len(self.unknown), len(self.missing)

    @property
    def sound(self) -> bool:
        return self.faults == (0, 0)


def convert(tensors: Tensors, architecture: str | None = None) -> Weights:
    """Convert a checkpoint to parameters.

    The layout is recognised by the names of the tensors, the architecture by the layers that are present. Classifiers
    are left out.

    Args:
        tensors: The checkpoint, as `jnst.weights.formats.read_tensors` returns it.
        architecture: A key of `jnst.backbones.BACKBONES`; only needed if the file contains only the first layers and
            fits several networks.

    Returns:
        The weights.

    Raises:
        ArgumentError: The architecture is unknown.
        WeightsError: The layout is unknown, or the checkpoint is for another architecture. Or tensors fit no rule, are
            missing, have the wrong shape, or are not finite floating-point numbers; the message names them.
    """
    if architecture is not None:
        param_shapes(architecture)
    try:
        _check_sum(tensors)
        name, layout = find_layout(tensors.arrays, tensors.metadata)
        fit = _find_fit(tensors, name, layout, architecture)
        params = _params(tensors, layout, fit)
    except WeightsError as error:
        raise WeightsError(one_line(f"{tensors.source}: {error}")) from error
    native = name == NATIVE_FORMAT
    return Weights(
        architecture=fit.architecture,
        params=params,
        preprocessing=layout.preprocessing,
        training=layout.training,
        source=tensors.metadata.get("source", "")
        if native
        else f"{Path(tensors.source).name} ({name}, {tensors.format})",
        licence=layout.licence,
        options=dict(layout.options),
    )


def _check_sum(tensors: Tensors) -> None:
    """Check the checksum of jnst's own files."""
    if (tensors.metadata.get("format"), tensors.metadata.get("version")) != (NATIVE_FORMAT, NATIVE_VERSION):
        return
    if checksum(tensors.arrays, tensors.metadata) != tensors.metadata.get(KEY):
        raise WeightsError("the tensors and metadata do not match the file's sha256: it is damaged, get it again")


def missing_params(
    architecture: str, present: Mapping[str, Any], options: Mapping[str, str | bool] = MappingProxyType({})
) -> list[str]:
    """Return the flat names of the parameters that a network with these options lacks, in order of depth.

    For the architectures in `PARTIAL`, nothing is missing after the last layer that is present.
    """
    shapes = list(param_shapes(architecture, options.get("widths")))
    if architecture in PARTIAL:
        layers = {name.rpartition("/")[0] for name in present}
        last = max((index for index, name in enumerate(shapes) if name.rpartition("/")[0] in layers), default=-1)
        shapes = shapes[: last + 1]
    return [name for name in shapes if name not in present]


def _fit(tensors: Tensors, layout: Layout, architecture: str) -> _Fit:
    shapes = param_shapes(architecture, layout.options.get("widths"))
    renamed: dict[str, str] = {}
    unknown: list[str] = []
    for tensor in tensors.arrays:
        flat = layout.rename(tensor, architecture)
        if flat in shapes:
            renamed[flat] = tensor
        elif not re.fullmatch(layout.dropped, tensor):
            unknown.append(tensor)
    return _Fit(architecture, renamed, unknown, missing_params(architecture, renamed, layout.options))


def _find_fit(tensors: Tensors, name: str, layout: Layout, architecture: str | None) -> _Fit:
    fits = sorted((_fit(tensors, layout, each) for each in layout.architectures), key=lambda fit: fit.faults)
    found = [fit.architecture for fit in fits if fit.sound] or [fits[0].architecture]
    if architecture not in (None, *found) and (fits[0].sound or architecture not in layout.architectures):
        raise WeightsError(
            f"the file contains weights of {' or '.join(found)} ({name}), but the requested architecture is "
            f"{architecture}: pass another file or another architecture"
        )
    if architecture is None and len(found) > 1:
        raise WeightsError(
            f"the {len(tensors.arrays)} tensors ({name}) fit both {' and '.join(found)}: pass the architecture as well"
        )
    fit = next(fit for fit in fits if fit.architecture == (architecture or found[0]))
    if fit.unknown:
        more = f" and {len(fit.unknown) - 3} more" if len(fit.unknown) > 3 else ""
        listed = ", ".join(f"`{tensor}`" for tensor in fit.unknown[:3])
        raise WeightsError(
            f"{listed}{more} fit no rule for {name} weights of {fit.architecture}: check which network this file is for"
        )
    if fit.missing:
        more = f" and {len(fit.missing) - 1} more" if len(fit.missing) > 1 else ""
        advice = where_to_get(fit.architecture, layout.training)
        verb = "are" if more else "is"
        raise WeightsError(f"`{fit.missing[0]}`{more} of {fit.architecture} {verb} missing ({name}): {advice}")
    return fit


def _params(tensors: Tensors, layout: Layout, fit: _Fit) -> dict[str, np.ndarray]:
    return {
        flat: _param(fit.renamed[flat], tensors.arrays[fit.renamed[flat]], shape, layout)
        for flat, shape in param_shapes(fit.architecture, layout.options.get("widths")).items()
        if flat in fit.renamed
    }


def _param(name: str, array: np.ndarray, shape: tuple[int, ...], layout: Layout) -> np.ndarray:
    axes = KERNEL_AXES[layout.kernel_order] if len(shape) == 4 else tuple(range(len(shape)))
    published = tuple(shape[axes.index(axis)] for axis in range(len(axes)))
    if array.shape != published:
        raise WeightsError(
            f"tensor `{name}` has shape {array.shape}, expected {published}: check which network the file is for"
        )
    if array.dtype.kind != "f":
        raise WeightsError(
            f"tensor `{name}` has type {array.dtype}, expected floating-point numbers: save it as float32"
        )
    with np.errstate(over="ignore"):
        param = np.ascontiguousarray(array.transpose(axes), dtype=np.float32)
    check_finite(name, param)
    return param


def check_finite(name: str, array: np.ndarray) -> None:
    """Check that all values of a tensor are finite.

    Raises:
        WeightsError: Some are not; the message names the tensor.
    """
    if not np.isfinite(array).all():
        count = int(np.sum(~np.isfinite(array)))
        raise WeightsError(
            f"tensor `{name}` has {count} values that are not finite, expected none: get the weights again"
        )


def nested(params: Mapping[str, Any]) -> dict[str, Any]:
    """Turn ``{"conv1_1/kernel": x}`` into ``{"conv1_1": {"kernel": x}}``, the form that `Backbone.apply` takes."""
    tree: dict[str, Any] = {}
    for name, leaf in params.items():
        *branches, last = name.split("/")
        branch = tree
        for key in branches:
            branch = branch.setdefault(key, {})
        branch[last] = leaf
    return tree


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves by their paths joined with slashes: the inverse of `nested`.

    Args:
        tree: Nested mappings.
        prefix: What to put in front of every name.
    """
    flat: dict[str, Any] = {}
    for name, leaf in tree.items():
        flat |= flatten(leaf, f"{prefix}{name}/") if isinstance(leaf, Mapping) else {f"{prefix}{name}": leaf}
    return flat
