"""Converting a published checkpoint to a network's parameters. Pure functions."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from jnst.backbones import Preprocessing, param_shapes
from jnst.errors import WeightsError
from jnst.weights.checksum import KEY, checksum
from jnst.weights.formats import Tensors
from jnst.weights.formats.tensors import one_line
from jnst.weights.layouts import KERNEL_AXES, NATIVE_FORMAT, NATIVE_VERSION, RESNETS, VGGS, Layout, find_layout
from jnst.weights.registry import where_to_get
from jnst.weights.trainings import PREPROCESSINGS, TRAININGS, equivalent, find_preprocessing, recognise

PARTIAL = VGGS
"""Architectures whose weights may end early: after any layer, but without gaps."""


_STATISTICS = re.compile(r"(.*[./])?(running|moving)_(mean|var|variance)")
"""Names of the tensors of batch normalisation."""


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
        assumed: What was assumed because the file does not tell, for a warning; empty if nothing was.
    """

    architecture: str
    params: Mapping[str, np.ndarray]
    preprocessing: Preprocessing
    training: str
    source: str
    licence: str
    options: Mapping[str, str | bool] = dataclasses.field(default_factory=dict)
    assumed: str = ""


@dataclasses.dataclass(frozen=True)
class _Fit:
    """How well the tensors fit an architecture.

    Attributes:
        architecture: A key of `jnst.backbones.BACKBONES`.
        renamed: The tensors' names by the flat names of parameters.
        unknown: The tensors that fit no rule of the layout.
        missing: The flat names of missing parameters.
        misshapen: The tensors of another shape.
    """

    architecture: str
    renamed: dict[str, str]
    unknown: list[str]
    missing: list[str]
    misshapen: list[str]

    @property
    def faults(self) -> tuple[int, int, int]:
        return len(self.unknown), len(self.missing), len(self.misshapen)

    @property
    def sound(self) -> bool:
        return self.faults == (0, 0, 0)


def convert(
    tensors: Tensors,
    architecture: str | None = None,
    *,
    preprocessing: str | Preprocessing | None = None,
    training: str | None = None,
    gaps: bool = False,
) -> Weights:
    """Convert a checkpoint to parameters.

    The layout is recognised by the names of the tensors, the architecture by the layers that are present, and the
    training and preprocessing by the values of the first convolution (see `jnst.weights.trainings`). Classifiers are
    left out.

    Args:
        tensors: The checkpoint, as `jnst.weights.formats.read_tensors` returns it.
        architecture: A key of `jnst.backbones.BACKBONES`; only needed if the file contains only the first layers and
            fits several networks.
        preprocessing: What the network takes, a key of `PREPROCESSINGS` or a `Preprocessing`; None: as recognised.
        training: Who trained the network, for example a key of `TRAININGS`, whose preprocessing is then the default;
            None: as recognised.
        gaps: Whether layers may be missing, which `combine` then takes from elsewhere.

    Returns:
        The weights.

    Raises:
        ArgumentError: The architecture or the preprocessing is unknown.
        WeightsError: The layout is unknown, or the checkpoint is for another architecture. Or tensors fit no rule, are
            missing, have the wrong shape, or are not finite floating-point numbers; the message names them.
    """
    if architecture is not None:
        param_shapes(architecture)
    if preprocessing is not None:
        preprocessing = find_preprocessing(preprocessing)
    try:
        _check_sum(tensors)
        name, prefix, layout = find_layout(tensors.arrays, tensors.metadata)
        tensors = _without_prefix(tensors, prefix)
        fit = _find_fit(tensors, name, layout, architecture)
        if not gaps:
            _check_complete(fit.architecture, fit.missing, name, layout.training)
        params = _params(tensors, layout, fit)
    except WeightsError as error:
        raise WeightsError(one_line(f"{tensors.source}: {error}")) from error
    native = name == NATIVE_FORMAT
    weights = Weights(
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
    return _stated(weights if native else _recognised(weights), preprocessing, training)


def _without_prefix(tensors: Tensors, prefix: str) -> Tensors:
    arrays = {name.removeprefix(prefix): array for name, array in tensors.arrays.items() if name.startswith(prefix)}
    return dataclasses.replace(tensors, arrays=arrays)


def _recognised(weights: Weights) -> Weights:
    """Correct what the names suggest by what the values of the first convolution say; note if they say nothing."""
    first = next(iter(weights.params)).rpartition("/")[0]
    kernel, bias = (weights.params.get(f"{first}/{leaf}") for leaf in ("kernel", "bias"))
    found = None if kernel is None or bias is None else recognise(kernel, bias)
    if found and not equivalent(found.preprocessing, weights.preprocessing):
        training, licence = found.training, TRAININGS[found.training].licence
        weights = dataclasses.replace(weights, training=training, preprocessing=found.preprocessing, licence=licence)
    if (found and found.sure) or weights.architecture in RESNETS:
        return weights  # jnst knows the values of no ResNet
    reason = "looks like published weights, rescaled" if found else "matches no network jnst knows"
    return dataclasses.replace(
        weights,
        assumed=f"`{first}` {reason}; assuming {weights.training} weights and input "
        f"{weights.preprocessing.description}: pass preprocessing=… or --preprocessing ({', '.join(PREPROCESSINGS)})",
    )


def _stated(weights: Weights, preprocessing: Preprocessing | None, training: str | None) -> Weights:
    """Replace what was recognised by what the caller says."""
    if preprocessing is None and training in TRAININGS:
        preprocessing = TRAININGS[training].preprocessing
    if preprocessing is None:
        return dataclasses.replace(weights, training=training or weights.training)
    if training is None and not equivalent(preprocessing, weights.preprocessing):
        training = next((name for name, row in TRAININGS.items() if row.preprocessing == preprocessing), "unknown")
    return dataclasses.replace(weights, training=training or weights.training, preprocessing=preprocessing, assumed="")


def combine(parts: Sequence[Weights]) -> Weights:
    """Combine weights of one network: each layer comes from the first part that has it.

    Args:
        parts: One or more, converted with ``gaps`` if there are several.

    Returns:
        The weights.

    Raises:
        WeightsError: The parts are of different architectures, take different inputs, or lack a layer between others.
    """
    known = next((part for part in parts if not part.assumed), parts[0])
    for part in parts:
        compared = [("architecture", known.architecture, part.architecture), ("options", known.options, part.options)]
        if not part.assumed:
            compared += [
                ("training", known.training, part.training),
                ("input", known.preprocessing.description, part.preprocessing.description),
            ]
        for what, one, other in compared:
            if one != other:
                raise WeightsError(
                    f"{known.source} and {part.source} cannot be combined: their {what} differs ({one}, {other}): "
                    "pass files of one network"
                )
    found = {name: array for part in reversed(parts) for name, array in part.params.items()}
    missing = missing_params(known.architecture, found, known.options)
    if len(parts) > 1:
        _check_complete(known.architecture, missing, " and ".join(part.source for part in parts), known.training)
    return dataclasses.replace(
        known,
        params={
            name: found[name] for name in param_shapes(known.architecture, known.options.get("widths")) if name in found
        },
        source="; ".join(part.source for part in parts),
        licence=" AND ".join(dict.fromkeys(each for part in parts for each in part.licence.split(" AND "))),
        assumed=next((_guess(part, known) for part in parts if part.assumed), ""),
    )


def _guess(part: Weights, known: Weights) -> str:
    return (
        known.assumed
        or f"{part.source} does not say how it was trained, assuming {known.training} as in {known.source}"
    )


def _check_complete(architecture: str, missing: list[str], source: str, training: str) -> None:
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        verb = "are" if more else "is"
        advice = where_to_get(architecture, training)
        raise WeightsError(f"`{missing[0]}`{more} of {architecture} {verb} missing ({source}): {advice}")


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
    missing = missing_params(architecture, renamed, layout.options)
    misshapen = [
        tensor for flat, tensor in renamed.items() if tensors.arrays[tensor].shape != _published(shapes[flat], layout)
    ]
    return _Fit(architecture, renamed, unknown, missing, misshapen)


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
    if normalised := next(filter(_STATISTICS.fullmatch, fit.unknown), None):
        raise WeightsError(
            f"`{normalised}` belongs to a network with batch normalisation, which the {fit.architecture} of jnst does "
            "not have: get the plain network"
        )
    if fit.unknown:
        more = f" and {len(fit.unknown) - 3} more" if len(fit.unknown) > 3 else ""
        listed = ", ".join(f"`{tensor}`" for tensor in fit.unknown[:3])
        raise WeightsError(
            f"{listed}{more} fit no rule for {name} weights of {fit.architecture}: check which network this file is for"
        )
    return fit


def common_architecture(files: Sequence[Tensors]) -> str:
    """Return the architecture that all files may be parts of.

    Args:
        files: Two or more checkpoints.

    Returns:
        The only key of `jnst.backbones.BACKBONES` that fits every file.

    Raises:
        WeightsError: The layout of a file is unknown, or there is no such architecture, or more than one.
    """
    fitting = [_fitting(tensors) for tensors in files]
    common = [name for name in fitting[0] if all(name in names for names in fitting)]
    if len(common) > 1:
        sources = " and ".join(tensors.source for tensors in files)
        raise WeightsError(f"{sources} fit both {' and '.join(common)}: pass the architecture as well")
    if not common:
        facts = ", ".join(
            f"{tensors.source} {' or '.join(names)}" for tensors, names in zip(files, fitting, strict=True)
        )
        raise WeightsError(f"the files are of different architectures ({facts}): pass files of one network")
    return common[0]


def _fitting(tensors: Tensors) -> list[str]:
    """The architectures that have all tensors of a file; where none has, the most similar one."""
    try:
        _, prefix, layout = find_layout(tensors.arrays, tensors.metadata)
    except WeightsError as error:
        raise WeightsError(one_line(f"{tensors.source}: {error}")) from error
    inside = _without_prefix(tensors, prefix)
    fits = sorted((_fit(inside, layout, each) for each in layout.architectures), key=lambda fit: fit.faults)
    return [fit.architecture for fit in fits if not (fit.unknown or fit.misshapen)] or [fits[0].architecture]


def _params(tensors: Tensors, layout: Layout, fit: _Fit) -> dict[str, np.ndarray]:
    return {
        flat: _param(fit.renamed[flat], tensors.arrays[fit.renamed[flat]], shape, layout)
        for flat, shape in param_shapes(fit.architecture, layout.options.get("widths")).items()
        if flat in fit.renamed
    }


def _param(name: str, array: np.ndarray, shape: tuple[int, ...], layout: Layout) -> np.ndarray:
    axes, published = _axes(shape, layout), _published(shape, layout)
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


def _axes(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    return KERNEL_AXES[layout.kernel_order] if len(shape) == 4 else tuple(range(len(shape)))


def _published(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """Return the shape in the file of a parameter."""
    axes = _axes(shape, layout)
    return tuple(shape[axes.index(axis)] for axis in range(len(axes)))


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
