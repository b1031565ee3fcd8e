"""How publishers lay out their weights, as one table: what is recognised, renamed, transposed and dropped."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping

from jnst.backbones import IDENTITY, IMAGENET, LPIPS, OXFORD, Preprocessing, param_shapes
from jnst.errors import JnstError, WeightsError
from jnst.weights import names

KERNEL_AXES: dict[str, tuple[int, int, int, int]] = {"HWIO": (0, 1, 2, 3), "OIHW": (2, 3, 1, 0)}
"""The permutation that brings a kernel of each order into HWIO."""

NATIVE_FORMAT, NATIVE_VERSION, UNCHECKED_VERSION = "jnst-weights", "2", "1"
"""What the metadata of jnst's own files say under ``format`` and ``version``; the earlier version has no checksum."""

VGGS = ("vgg16", "vgg19")
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


@dataclasses.dataclass(frozen=True)
class Layout:
    """A row of `LAYOUTS`.

    Attributes:
        architectures: What is published so.
        mark: A pattern that some tensor's name matches in this layout, and in no layout before it in the table.
        rename: From a tensor's name and an architecture to a parameter's flat name; None where it fits no rule.
        preprocessing: What the network was trained to be fed.
        training: Who trained it, as in `jnst.weights.registry.SOURCES`.
        licence: An SPDX licence expression.
        kernel_order: A key of `KERNEL_AXES`, the order of a kernel's axes in the file.
        dropped: A pattern for tensors that are left out knowingly (the classifier).
        options: Keyword arguments with which the network computes what the publisher's does.
    """

    architectures: tuple[str, ...]
    mark: str
    rename: names.Rename
    preprocessing: Preprocessing
    training: str
    licence: str
    kernel_order: str = "HWIO"
    dropped: str = r"(?!)"
    options: Mapping[str, str | bool] = dataclasses.field(default_factory=dict)


LAYOUTS: dict[str, Layout] = {
    "Keras VGG": Layout(
        architectures=VGGS,
        mark=r"block\d_conv\d/(kernel|bias)",
        rename=names.patterns((r"block(\d)_conv(\d)/(kernel|bias)", r"conv\1_\2/\3")),
        preprocessing=OXFORD,
        training="oxford",
        licence="CC-BY-4.0",
        dropped=r"(fc\d|predictions)/.*",
    ),
    "flaxmodels VGG": Layout(
        architectures=VGGS,
        mark=r"conv\d_\d/(weight|bias)",
        rename=names.patterns((r"conv\d_\d/(weight|bias)", r"\g<0>")),
        preprocessing=IMAGENET,
        training="torchvision",
        licence="BSD-3-Clause",
        dropped=r"fc\d/.*",
    ),
    "Keras SqueezeNet": Layout(
        architectures=("squeezenet1.1",),
        mark=r"fire\d/squeeze1x1/(kernel|bias)",
        rename=names.patterns(
            (r"(conv1|fire\d/expand[13]x[13])/(kernel|bias)", r"\g<0>"),
            (r"(fire\d)/squeeze1x1/(kernel|bias)", r"\1/squeeze/\2"),
        ),
        preprocessing=OXFORD,
        training="caffe",
        licence="MIT",
        dropped=r"conv10/.*",
        options={"ceil_mode": False},
    ),
    "torchvision SqueezeNet": Layout(
        architectures=("squeezenet1.1",),
        mark=r"features\.\d+\.squeeze\.(weight|bias)",
        rename=names.torchvision_squeezenet,
        preprocessing=IMAGENET,
        training="torchvision",
        licence="BSD-3-Clause",
        kernel_order="OIHW",
        dropped=r"classifier\..*",
        options={"ceil_mode": True},
    ),
    "LPIPS SqueezeNet": Layout(
        architectures=("squeezenet1.1",),
        mark=r"net\.slice\d\.\d+\.squeeze\.(weight|bias)",
        rename=names.lpips_squeezenet,
        preprocessing=LPIPS,
        training="lpips",
        licence="BSD-2-Clause AND BSD-3-Clause",
        kernel_order="OIHW",
        dropped=r"(lin\d|lins\.\d|scaling_layer)\..*",
        options={"ceil_mode": True},
    ),
    "torchvision VGG": Layout(
        architectures=VGGS,
        mark=r"features\.\d+\.(weight|bias)",
        rename=names.torchvision_vgg,
        preprocessing=IMAGENET,
        training="torchvision",
        licence="BSD-3-Clause",
        kernel_order="OIHW",
        dropped=r"(classifier|pre_logits|head)\..*",
    ),
    "slim VGG": Layout(
        architectures=("vgg19-slim",),
        mark=r"conv\d\d(_aux)?\.(weight|bias)",
        rename=names.patterns(
            (r"conv0\.(weight|bias)", r"conv0/\1"),
            (r"conv(\d)(\d)\.(weight|bias)", r"conv\1_\2/\3"),
            (r"conv(\d)1_aux\.(weight|bias)", r"aux\1_1/\2"),
        ),
        preprocessing=IDENTITY,
        training="distilled",
        licence="MIT",
        kernel_order="OIHW",
        options={"padding": "reflect"},
    ),
    "torchvision ResNet": Layout(
        architectures=RESNETS,
        mark=r"layer\d\.\d+\.conv\d\.weight",
        rename=names.resnet,
        preprocessing=IMAGENET,
        training="torchvision",
        licence="BSD-3-Clause",
        kernel_order="OIHW",
        dropped=r"fc\..*|(.*\.)?num_batches_tracked",
    ),
    "flaxmodels ResNet": Layout(
        architectures=RESNETS,
        mark=r"layer\d/block\d+/conv\d/weight",
        rename=names.resnet,
        preprocessing=IMAGENET,
        training="torchvision",
        licence="BSD-3-Clause",
        dropped=r"fc/.*",
    ),
}
"""Every layout that is recognised by the names of its tensors."""


def find_layout(tensors: Iterable[str], metadata: Mapping[str, str]) -> tuple[str, Layout]:
    """Recognise how a checkpoint is laid out.

    Args:
        tensors: The names of its tensors.
        metadata: Its metadata; jnst's own files are told by them.

    Returns:
        The layout's name, a key of `LAYOUTS` or `NATIVE_FORMAT`, and the layout.

    Raises:
        WeightsError: No layout is recognised, or a file of jnst's own has metadata that cannot be read.
    """
    if metadata.get("format") == NATIVE_FORMAT:
        return NATIVE_FORMAT, _native_layout(metadata)
    tensors = list(tensors)
    for name, layout in LAYOUTS.items():
        if any(re.fullmatch(layout.mark, tensor) for tensor in tensors):
            return name, layout
    first = ", ".join(f"`{tensor}`" for tensor in tensors[:3]) or "no tensor"
    raise WeightsError(
        f"the tensors ({first} …) are laid out in no known way: "
        f"expected one of {', '.join(LAYOUTS)}, or a file of jnst's own"
    )


def used_tensors(tensors: Iterable[str], metadata: Mapping[str, str]) -> set[str]:
    """All tensors of a checkpoint but those that its layout leaves out knowingly, such as a classifier's.

    Args:
        tensors: Their names.
        metadata: The checkpoint's metadata.

    Returns:
        Names; all of them where the layout is unknown.
    """
    tensors = list(tensors)
    try:
        dropped = find_layout(tensors, metadata)[1].dropped
    except WeightsError:
        return set(tensors)
    return {tensor for tensor in tensors if not re.fullmatch(dropped, tensor)}


def _native_layout(metadata: Mapping[str, str]) -> Layout:
    """The layout of a file that `jnst.weights.save_weights` wrote."""
    version = metadata.get("version")
    if version not in (NATIVE_VERSION, UNCHECKED_VERSION):
        raise WeightsError(
            f"{NATIVE_FORMAT} version {version}, expected {NATIVE_VERSION}: update jnst, or convert the weights again"
        )
    try:
        architecture, training, licence = (metadata[key] for key in ("architecture", "training", "licence"))
        preprocessing = Preprocessing.from_json(metadata["preprocessing"])
        options = json.loads(metadata["options"])
    except WeightsError:
        raise
    except KeyError as error:
        raise WeightsError(
            f"{NATIVE_FORMAT} metadata without {error}, expected it: convert the weights again"
        ) from error
    except ValueError as error:
        raise WeightsError(f"{NATIVE_FORMAT} metadata not readable ({error}): convert the weights again") from error
    if not isinstance(options, dict) or not all(isinstance(value, str | bool) for value in options.values()):
        raise WeightsError(
            f"{NATIVE_FORMAT} options {options!r:.80}, expected names or booleans: convert the weights again"
        )
    try:
        param_shapes(architecture, options.get("widths"))
    except JnstError as error:
        raise WeightsError(f"{NATIVE_FORMAT} metadata not readable ({error}): convert the weights again") from error
    return Layout(
        architectures=(architecture,),
        mark=r"(?!)",
        rename=lambda name, architecture: name,
        preprocessing=preprocessing,
        training=training,
        licence=licence,
        options=options,
    )
