"""Golden values of the backbones, computed with PyTorch in float64 and stored as float32 beside this file.

Run from the repository's root, with the folder of pretrained weights (it needs torch and h5py):

    python tests/golden/make_torch_golden.py ../shared/weights

It writes `torch_NAME.npz` for five names, and `torch_golden.json`. In each npz:

- `image`: (h, w, 3), float32 sRGB in [0, 1], the image given to the network.
- `LAYER`: (h', w', k), k of the layer's channels; `LAYER/channels`: (k,), their indices.
- `grad/LAYER`: (h, w, 3), the gradient by `image` of the sum of squares of that whole layer, every channel.

In a file of several networks or variants every key but `image` begins with `VARIANT/`. The weights of `torch_resnet`
are `random_weights.random_state_dict(VARIANT, seed)`. The JSON holds versions, the seed, the LPIPS distance that proves
the SqueezeNet, and how far float32 PyTorch is from each array, as a fraction of the array's largest magnitude.
"""

import argparse
import json
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from random_weights import RESNET_DEPTHS, random_state_dict
from torch import Tensor

SEED = 1
LPIPS_ZEROS_ONES = 0.642093
OXFORD_MEAN_BGR = (103.939, 116.779, 123.68)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Convolutions = dict[str, tuple[Tensor, Tensor]]  # {layer: (kernel OIHW, bias)}
Features = dict[str, Tensor]  # {layer: (1, c, h', w')}
Network = Callable[[Tensor], Features]  # from an image, (1, 3, h, w) in [0, 1]
Arrays = dict[str, np.ndarray]
Pool = Callable[[Tensor], Tensor]
PaddingModes = tuple[str, str]  # of conv1_1, of every other convolution

POOLS: dict[str, Pool] = {
    "max": lambda x: F.max_pool2d(x, 2),
    "avg": lambda x: F.avg_pool2d(x, 2),
    "l2": lambda x: F.lp_pool2d(x, 2.0, 2),
    "avg_rescaled": lambda x: F.avg_pool2d(x, 2) * 2,
    "l2_rescaled": lambda x: F.lp_pool2d(x, 2.0, 2) * 0.78,
}

# How many channels of each layer to keep; the gradient is taken of the last layer.
SLIM_KEPT = {"conv1_1": 2, "aux1_1": 2, "aux2_1": 4, "aux3_1": 16, "aux4_1": 32, "aux5_1": 128}
SLIM_KEPT |= {"relu1_1": 2, "relu2_1": 4, "relu3_1": 16, "relu4_1": 64, "relu5_1": 128}
KERAS_KEPT = {"relu1": 8, "fire2": 16, "fire5": 64, "fire9": 256}
LPIPS_KEPT = {"relu1": 8, "fire3": 16, "fire5": 32, "fire6": 32, "fire7": 32, "fire8": 64, "fire9": 256}
STAGES_KEPT = {"relu1": 4, "block1_0": 8, "block2_0": 16, "block3_1": 64}
RESNET_KEPT = {"resnet18": STAGES_KEPT | {"block4_1": 128}, "resnet50": STAGES_KEPT | {"block4_2": 256}}
VGG_KEPT = {"relu2_1": 8, "relu3_1": 32}
TORCHVISION_FIRES = {3: "fire2", 4: "fire3", 6: "fire4", 7: "fire5", 9: "fire6", 10: "fire7", 11: "fire8", 12: "fire9"}


def image(height: int, width: int) -> np.ndarray:
    """Waves and noise well inside (0, 1), in steps of 1/1024 (which compress well); float32 (h, w, 3)."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [np.sin(0.31 * x + 0.11 * y), np.sin(0.17 * y - 0.23 * x + 1), np.cos(0.02 * x * y + 2)]
    noise = np.asarray(np.random.PCG64(SEED).random_raw(height * width * 3)) * 2.0**-64
    image = 0.5 + 0.25 * np.stack(waves, axis=-1) + 0.4 * (noise.reshape(height, width, 3) - 0.5)
    return (np.round(image * 1024) / 1024).astype(np.float32)


def per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype).reshape(1, -1, 1, 1)


def oxford_input(image: Tensor) -> Tensor:
    """RGB in [0, 1] -> BGR in 0–255 minus the mean."""
    return image.flip(1) * 255 - per_channel(OXFORD_MEAN_BGR, image)


def convolve(x: Tensor, convolution: tuple[Tensor, Tensor], padding_mode: str = "constant") -> Tensor:
    """Stride 1, padded by half of the kernel on each side."""
    kernel, bias = (tensor.to(x.dtype) for tensor in convolution)
    pad = kernel.shape[-1] // 2
    return F.conv2d(F.pad(x, (pad,) * 4, mode=padding_mode) if pad else x, kernel, bias)


def vgg(convolutions: Convolutions, x: Tensor, depths: tuple[int, ...], pool: Pool, modes: PaddingModes) -> Features:
    """Every convB_L and reluB_L; `depths` counts the convolutions of each block."""
    features: Features = {}
    for block, depth in enumerate(depths, 1):
        for index in range(1, depth + 1):
            layer = f"{block}_{index}"
            features[f"conv{layer}"] = convolve(x, convolutions[f"conv{layer}"], modes[layer != "1_1"])
            features[f"relu{layer}"] = x = F.relu(features[f"conv{layer}"])
        x = pool(x)
    return features


def slim_vgg19(convolutions: Convolutions, image: Tensor) -> Features:
    x = convolve(image, convolutions["conv0"])
    features = vgg(convolutions, x, (2, 2, 4, 4, 1), POOLS["max"], ("reflect", "reflect"))
    for layer in ("1_1", "2_1", "3_1", "4_1", "5_1"):
        features[f"aux{layer}"] = F.relu(convolve(features[f"relu{layer}"], convolutions[f"aux{layer}"]))
    return features


def read_slim(path: Path) -> Convolutions:
    state = torch.load(path, map_location="cpu", weights_only=True)["model"]
    convolutions: Convolutions = {}
    for name in (key.removesuffix(".weight") for key in state if key.endswith(".weight")):
        digits = name.removeprefix("conv").removesuffix("_aux")
        layer = "0" if digits == "0" else f"{digits[0]}_{digits[1]}"
        kind = "aux" if name.endswith("_aux") else "conv"
        convolutions[kind + layer] = (state[f"{name}.weight"], state[f"{name}.bias"])
    return convolutions


def read_oxford(folder: Path) -> Convolutions:
    """Groups 1 to 5, conv1_1 to conv3_1; each file holds a kernel (HWIO), then a bias."""
    convolutions: Convolutions = {}
    channels = 3
    for group, (layer, width) in enumerate((("1_1", 64), ("1_2", 64), ("2_1", 128), ("2_2", 128), ("3_1", 256)), 1):
        values = torch.from_numpy(np.fromfile(folder / f"group{group}-shard1of1", "<f4").astype(np.float32))
        kernel = values[:-width].reshape(3, 3, channels, width).permute(3, 2, 0, 1)
        convolutions[f"conv{layer}"] = (kernel, values[-width:])
        channels = width
    return convolutions


def squeezenet(convolutions: Convolutions, x: Tensor, ceil_mode: bool) -> Features:
    """SqueezeNet 1.1's relu1 and fire2 … fire9 (Caffe's numbering), each after its ReLU."""
    kernel, bias = (tensor.to(x.dtype) for tensor in convolutions["conv1"])
    features = {"relu1": (x := F.relu(F.conv2d(x, kernel, bias, stride=2)))}
    for index in range(2, 10):
        if index in (2, 4, 6):
            x = F.max_pool2d(x, 3, 2, ceil_mode=ceil_mode)
        x = F.relu(convolve(x, convolutions[f"fire{index}/squeeze1x1"]))
        expanded = [convolve(x, convolutions[f"fire{index}/{expand}"]) for expand in ("expand1x1", "expand3x3")]
        features[f"fire{index}"] = x = F.relu(torch.cat(expanded, dim=1))
    return features


def read_keras(path: Path) -> Convolutions:
    parts: dict[str, dict[int, Tensor]] = {}

    def visit(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset):
            layer = "/".join(name.split("/")[: 1 if name.startswith("conv1") else 2])
            parts.setdefault(layer, {})[node.ndim] = torch.from_numpy(np.asarray(node[()]))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return {layer: (tensors[4].permute(3, 2, 0, 1), tensors[1]) for layer, tensors in parts.items()}


def read_lpips(path: Path) -> tuple[Convolutions, Features]:
    """The convolutions under Caffe's names, and the whole state dict."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    convolutions: Convolutions = {}
    for name in (key.removesuffix(".weight") for key in state if key.startswith("net.") and key.endswith(".weight")):
        _, _, index, *kind = name.split(".")
        layer = f"{TORCHVISION_FIRES[int(index)]}/{kind[0].replace('squeeze', 'squeeze1x1')}" if kind else "conv1"
        convolutions[layer] = (state[f"{name}.weight"], state[f"{name}.bias"])
    return convolutions, state


def lpips_squeezenet(convolutions: Convolutions, state: Features, image: Tensor) -> Features:
    shift, scale = (state[f"scaling_layer.{key}"].to(image.dtype) for key in ("shift", "scale"))
    return squeezenet(convolutions, (image * 2 - 1 - shift) / scale, ceil_mode=True)


def lpips_zeros_ones(network: Network, state: Features) -> float:
    """The LPIPS distance of black and white, 64×64; raises RuntimeError if it is not the published one."""
    black, white = (network(torch.full((1, 3, 64, 64), value, dtype=torch.float64)) for value in (0.0, 1.0))
    distance = 0.0
    for index, layer in enumerate(LPIPS_KEPT):
        unit = [f[layer] / (f[layer].square().sum(1, keepdim=True).sqrt() + 1e-10) for f in (black, white)]
        head = state[f"lin{index}.model.1.weight"].double()
        distance += F.conv2d((unit[0] - unit[1]).square(), head).mean().item()
    if abs(distance - LPIPS_ZEROS_ONES) > 1e-6:
        raise RuntimeError(f"LPIPS of zeros and ones is {distance:.7f}, expected {LPIPS_ZEROS_ONES}: check the network")
    return distance


def batch_norm(x: Tensor, state: Features, name: str) -> Tensor:
    keys = ("running_mean", "running_var", "weight", "bias")
    mean, variance, scale, bias = (state[f"{name}.{key}"].to(x.dtype) for key in keys)
    return F.batch_norm(x, mean, variance, scale, bias, eps=1e-5)


def convolve_and_normalize(x: Tensor, state: Features, convolution: str, norm: str, stride: int) -> Tensor:
    kernel = state[f"{convolution}.weight"].to(x.dtype)
    return batch_norm(F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2), state, norm)


def residual_block(x: Tensor, state: Features, name: str, stride: int) -> Tensor:
    """A BasicBlock or a Bottleneck; the stride sits in the first 3×3 convolution, as in torchvision."""
    strides = (1, stride, 1) if f"{name}.conv3.weight" in state else (stride, 1)
    y = x
    for index, step in enumerate(strides, 1):
        y = convolve_and_normalize(y, state, f"{name}.conv{index}", f"{name}.bn{index}", step)
        y = F.relu(y) if index < len(strides) else y
    if f"{name}.downsample.0.weight" in state:
        x = convolve_and_normalize(x, state, f"{name}.downsample.0", f"{name}.downsample.1", stride)
    return F.relu(x + y)


def resnet(state: Features, depths: tuple[int, ...], image: Tensor) -> Features:
    """The stem's relu1, before its max pooling, and every blockB_I, with I from 0."""
    x = (image - per_channel(IMAGENET_MEAN, image)) / per_channel(IMAGENET_STD, image)
    features = {"relu1": F.relu(convolve_and_normalize(x, state, "conv1", "bn1", stride=2))}
    x = F.max_pool2d(features["relu1"], 3, 2, padding=1)
    for stage, depth in enumerate(depths, 1):
        for index in range(depth):
            stride = 2 if stage > 1 and index == 0 else 1
            features[f"block{stage}_{index}"] = x = residual_block(x, state, f"layer{stage}.{index}", stride)
    return features


def random_resnet(name: str) -> Network:
    state = {key: torch.from_numpy(value) for key, value in random_state_dict(name, SEED).items()}
    return partial(resnet, state, RESNET_DEPTHS[name])


def oxford_vgg19(convolutions: Convolutions, pool: Pool, modes: PaddingModes, image: Tensor) -> Features:
    return vgg(convolutions, oxford_input(image), (2, 2, 1), pool, modes)


def vgg_variants(convolutions: Convolutions) -> dict[str, Network]:
    """VGG19 to relu3_1 with each pooling (zero padding) and each padding (max pooling)."""
    settings: dict[str, tuple[Pool, PaddingModes]]
    settings = {name: (pool, ("constant", "constant")) for name, pool in POOLS.items()}
    for mode in ("reflect", "replicate"):
        settings |= {f"{mode}_input": (POOLS["max"], (mode, "constant")), mode: (POOLS["max"], (mode, mode))}
    return {name: partial(oxford_vgg19, convolutions, *setting) for name, setting in settings.items()}


def evaluate(network: Network, image: np.ndarray, kept: dict[str, int], dtype: torch.dtype) -> Arrays:
    """The kept layers, their channels, and the gradient of the last one, in the given precision."""
    x = torch.from_numpy(image).to(dtype).requires_grad_()
    features = network(x.permute(2, 0, 1)[None])
    arrays: Arrays = {}
    for layer, count in kept.items():
        step = features[layer].shape[1] // count
        channels = np.arange(count, dtype=np.int32) * step + step // 2
        arrays[layer] = features[layer][0].permute(1, 2, 0).detach().numpy()[..., channels]
        arrays[f"{layer}/channels"] = channels
    deepest = list(kept)[-1]
    (gradient,) = torch.autograd.grad(features[deepest].square().sum(), x)
    return arrays | {f"grad/{deepest}": gradient.numpy()}


def relative_error(exact: np.ndarray, rounded: np.ndarray) -> float:
    return float(f"{np.abs(rounded - exact).max() / np.abs(exact).max():.1e}")


def write(name: str, image: np.ndarray, networks: dict[str, tuple[Network, dict[str, int]]]) -> dict[str, float]:
    """Writes `torch_NAME.npz` from {variant: (network, kept)}; returns the float32 error of each array."""
    stored: dict[str, Any] = {"image": image}
    errors: dict[str, float] = {}
    for variant, (network, kept) in networks.items():
        rounded = evaluate(network, image, kept, torch.float32)
        for key, exact in evaluate(network, image, kept, torch.float64).items():
            path = f"{variant}/{key}".removeprefix("/")
            if exact.dtype == np.float64:
                errors[path] = relative_error(exact, rounded[key])
            stored[path] = exact.astype(rounded[key].dtype)
    np.savez_compressed(Path(__file__).with_name(f"torch_{name}.npz"), **stored)
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes golden values of the backbones, computed with PyTorch.")
    parser.add_argument("weights", type=Path, help="the folder of pretrained weights")
    weights: Path = parser.parse_args().weights
    slim = partial(slim_vgg19, read_slim(weights / "vgg19-slim16x/encoder_relu5_1.pth"))
    keras = read_keras(next((weights / "squeezenet1.1-keras").glob("*.h5")))
    lpips_convolutions, lpips_state = read_lpips(weights / "lpips-squeeze/lpips_squeeze.pt")
    lpips = partial(lpips_squeezenet, lpips_convolutions, lpips_state)
    oxford = vgg_variants(read_oxford(weights / "vgg19-oxford-tfjs"))
    resnets = {name: (random_resnet(name), kept) for name, kept in RESNET_KEPT.items()}
    distance = lpips_zeros_ones(lpips, lpips_state)
    squeeze = {"": (lambda image: squeezenet(keras, oxford_input(image), ceil_mode=False), KERAS_KEPT)}
    errors = {
        "torch_slim": write("slim", image(35, 44), {"": (slim, SLIM_KEPT)}),
        "torch_squeezenet_keras": write("squeezenet_keras", image(51, 52), squeeze),
        "torch_squeezenet_lpips": write("squeezenet_lpips", image(51, 52), {"": (lpips, LPIPS_KEPT)}),
        "torch_resnet": write("resnet", image(48, 41), resnets),
        "torch_vgg_pooling": write("vgg_pooling", image(27, 37), {k: (net, VGG_KEPT) for k, net in oxford.items()}),
    }
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    facts = {"versions": versions | {"h5py": h5py.__version__}, "seed": SEED, "lpips_zeros_ones": distance}
    facts_json = json.dumps(facts | {"float32_error": errors}, indent=1) + "\n"
    Path(__file__).with_name("torch_golden.json").write_text(facts_json)


if __name__ == "__main__":
    main()
