"""From a published checkpoint to a network's parameters; pure."""

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
"""Networks whose weights may end early: any number of layers, from the first without a gap."""


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """A network's parameters and what belongs to them.

    Attributes:
        architecture: A key of `jnst.backbones.BACKBONES`.
        params: float32 arrays by flat name (``conv1_1/kernel``), kernels HWIO, in order of depth; of a VGG perhaps only
            the first layers.
        preprocessing: What the network was trained to be fed.
        training: Who trained it ("oxford", "torchvision", "caffe", "lpips", "distilled" …).
        source: The file and layout that they came from.
        licence: An SPDX licence expression.
        options: Keyword arguments for the network (``{"padding": "reflect"}``).
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
    """How an architecture suits the tensors: these by flat name, those that fit no rule, and what is missing."""

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
    """Turn a checkpoint into parameters.

    The layout is recognised from the tensors' names, the architecture from which layers there are. Classifiers are
    left out.

    Args:
        tensors: What `jnst.weights.formats.read_tensors` read.
        architecture: A key of `jnst.backbones.BACKBONES`; needed only where the first layers alone are there and fit
            several networks.

    Returns:
        The weights.

    Raises:
        ArgumentError: ``architecture`` is unknown.
        WeightsError: An unknown layout; another architecture; tensors that fit no rule, are missing, have
            another shape, are not floating-point numbers or not finite: the message names them.
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
    """Check jnst's own files whole: no later check would notice a changed number."""
    said = tensors.metadata.get("format"), tensors.metadata.get("version")
    if said != (NATIVE_FORMAT, NATIVE_VERSION):
        return
    if checksum(tensors.arrays, tensors.metadata) != tensors.metadata.get(KEY):
        raise WeightsError("its tensors and metadata have another sha256 than it says: it is damaged, get it again")


def missing_params(
    architecture: str, present: Mapping[str, Any], options: Mapping[str, str | bool] = MappingProxyType({})
) -> list[str]:
    """The parameters that are missing from a network with these options, in order of depth.

    Nothing is missing behind the last layer that is there, if the architecture is one of `PARTIAL`.
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
            f"holds weights of {' or '.join(found)} ({name}), but the architecture asked for is {architecture}: "
            "pass another file, or another architecture"
        )
    if architecture is None and len(found) > 1:
        raise WeightsError(
            f"its {len(tensors.arrays)} tensors ({name}) fit {' and '.join(found)} alike: say which by architecture=…"
        )
    fit = next(fit for fit in fits if fit.architecture == (architecture or found[0]))
    if fit.unknown:
        more = f" and {len(fit.unknown) - 3} more" if len(fit.unknown) > 3 else ""
        listed = ", ".join(f"`{tensor}`" for tensor in fit.unknown[:3])
        raise WeightsError(
            f"{listed}{more} fit no rule of {name} weights for {fit.architecture}: check which network this file is for"
        )
    if fit.missing:
        more = f" and {len(fit.missing) - 1} more" if len(fit.missing) > 1 else ""
        advice = where_to_get(fit.architecture, layout.training)
        raise WeightsError(f"`{fit.missing[0]}`{more} of {fit.architecture} missing ({name}): {advice}")
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
            f"tensor `{name}` has shape {array.shape}, expected {published}: check which network it is for"
        )
    if array.dtype.kind != "f":
        raise WeightsError(f"tensor `{name}` holds {array.dtype}, expected floating-point numbers: save it as float32")
    with np.errstate(over="ignore"):
        param = np.ascontiguousarray(array.transpose(axes), dtype=np.float32)
    check_finite(name, param)
    return param


def check_finite(name: str, array: np.ndarray) -> None:
    """Raise a `WeightsError` that names the tensor unless all its values are finite."""
    if not np.isfinite(array).all():
        count = int(np.sum(~np.isfinite(array)))
        raise WeightsError(
            f"tensor `{name}` has {count} values that are not finite, expected none: get the weights again"
        )


def nested(params: Mapping[str, Any]) -> dict[str, Any]:
    """Turn ``{"conv1_1/kernel": x}`` into ``{"conv1_1": {"kernel": x}}``, as a backbone's ``apply`` wants it."""
    tree: dict[str, Any] = {}
    for name, leaf in params.items():
        *branches, last = name.split("/")
        branch = tree
        for key in branches:
            branch = branch.setdefault(key, {})
        branch[last] = leaf
    return tree


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The inverse of `nested`: leaves by their path, joined with slashes.

    Args:
        tree: Nested mappings.
        prefix: Put before every name.
    """
    flat: dict[str, Any] = {}
    for name, leaf in tree.items():
        flat |= flatten(leaf, f"{prefix}{name}/") if isinstance(leaf, Mapping) else {f"{prefix}{name}": leaf}
    return flat
