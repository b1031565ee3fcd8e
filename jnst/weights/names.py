"""From the names that publishers give their tensors to flat parameter names; None where a name fits no rule."""

import functools
import re
from collections.abc import Callable
from typing import cast

from jnst.backbones import make_backbone
from jnst.backbones.resnet import ResNet
from jnst.backbones.vgg import VGG16_WIDTHS, VGG19_WIDTHS

Rename = Callable[[str, str], str | None]
"""From a tensor's name and an architecture to a flat name (``conv1_1/kernel``)."""


def patterns(*rules: tuple[str, str]) -> Rename:
    """Rename by the first regular expression that matches the whole name; a leaf ``weight`` becomes ``kernel``."""

    def rename(name: str, architecture: str) -> str | None:
        for pattern, template in rules:
            if match := re.fullmatch(pattern, name):
                return re.sub("/weight$", "/kernel", match.expand(template))
        return None

    return rename


def _vgg_features(depths: tuple[int, ...]) -> dict[str, str]:
    """Convolutions by their position in torchvision's ``features``, where ReLUs and poolings count too."""
    names: dict[str, str] = {}
    position = 0
    for block, depth in enumerate(depths, 1):
        for layer in range(1, depth + 1):
            names[str(position)] = f"conv{block}_{layer}"
            position += 2
        position += 1
    return names


VGG_FEATURES: dict[str, dict[str, str]] = {
    "vgg16": _vgg_features(tuple(map(len, VGG16_WIDTHS))),
    "vgg19": _vgg_features(tuple(map(len, VGG19_WIDTHS))),
}

FIRE_FEATURES: dict[str, str] = {
    "3": "fire2",
    "4": "fire3",
    "6": "fire4",
    "7": "fire5",
    "9": "fire6",
    "10": "fire7",
    "11": "fire8",
    "12": "fire9",
}
"""Fire modules by their position in torchvision's SqueezeNet 1.1."""

LPIPS_SLICES: dict[str, str] = dict(zip(("0", *FIRE_FEATURES), "122334567", strict=True))
"""The slice in which LPIPS keeps each position of torchvision's SqueezeNet."""

_KERNEL = {"weight": "kernel", "bias": "bias"}


def torchvision_vgg(name: str, architecture: str) -> str | None:
    """``features.0.weight`` is ``conv1_1/kernel``; later positions depend on the architecture."""
    match = re.fullmatch(r"features\.(\d+)\.(weight|bias)", name)
    layer = VGG_FEATURES[architecture].get(match[1]) if match else None
    return f"{layer}/{_KERNEL[match[2]]}" if match and layer else None


def torchvision_squeezenet(name: str, architecture: str) -> str | None:
    """``features.3.squeeze.weight`` is ``fire2/squeeze/kernel``."""
    if match := re.fullmatch(r"features\.0\.(weight|bias)", name):
        return f"conv1/{_KERNEL[match[1]]}"
    match = re.fullmatch(r"features\.(\d+)\.(squeeze|expand1x1|expand3x3)\.(weight|bias)", name)
    fire = FIRE_FEATURES.get(match[1]) if match else None
    return f"{fire}/{match[2]}/{_KERNEL[match[3]]}" if match and fire else None


def lpips_squeezenet(name: str, architecture: str) -> str | None:
    """``net.slice2.3.squeeze.weight`` is torchvision's ``features.3.squeeze.weight``."""
    match = re.fullmatch(r"net\.slice(\d)\.(\d+)\.(.*)", name)
    if match is None or match[1] != LPIPS_SLICES.get(match[2]):
        return None
    return torchvision_squeezenet(f"features.{match[2]}.{match[3]}", architecture)


_RESNET_NAMES = (
    r"(?:layer([1-4])\.(0|[1-9]\d*)\.)?(conv|bn)([1-3])\.(\w+)",
    r"layer([1-4])\.(0|[1-9]\d*)\.downsample\.(0|1)()\.(\w+)",
    r"(?:layer([1-4])/block(0|[1-9]\d*)/)?(conv|bn)([1-3])/(\w+)",
    r"layer([1-4])/block(0|[1-9]\d*)/downsample/(conv|bn)()/(\w+)",
)
"""torchvision's names, then flaxmodels': stage, block, kind, number (empty where downsampling) and leaf."""

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
    """The kind of block, the convolutions in one, and the number of blocks in each stage."""
    network = cast(ResNet, make_backbone(architecture).network)
    return ("Bottleneck", 3, network.depths) if network.bottleneck else ("BasicBlock", 2, network.depths)


def resnet(name: str, architecture: str) -> str | None:
    """``layer2.0.bn1.running_mean`` (``layer2/block0/bn1/mean``) is ``Bottleneck_3/BatchNorm_0/mean`` in ResNet-50.

    Blocks are counted through all stages; a downsampling's convolution comes last in its block.
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
