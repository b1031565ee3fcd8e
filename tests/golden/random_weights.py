"""Random but reproducible weights of torchvision's networks, too large to be stored beside the golden values.

Every tensor depends on (seed, name, shape) alone, not on the order: it is drawn from `PCG64([seed, crc32(name)])`,
whose raw stream NumPy promises to keep from version to version.
"""

import math
import zlib

import numpy as np

VGG_DEPTHS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
VGG_WIDTHS = (64, 128, 256, 512, 512)
RESNET_DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
RESNET_WIDTHS = (64, 128, 256, 512)
BOTTLENECK_EXPANSION = 4

Shapes = dict[str, tuple[int, ...]]


def random_state_dict(network: str, seed: int) -> dict[str, np.ndarray]:
    """Draws the weights of a network without its classifier, under torchvision's names.

    Kernels (OIHW) are He-uniform, within ±√(6 / fan_in); scales and variances of batch norms lie in [0.5, 1.5), biases
    and means in [-0.2, 0.2). All are float32, but for the batch norms' `num_batches_tracked`, an int64 scalar of zero.

    Args:
        network: "resnet18", "resnet50", "vgg16" or "vgg19".
        seed: Seed, not negative.

    Returns:
        {name: array}, for example `features.0.weight` or `layer1.0.downsample.1.running_var`.
    """
    shapes = _vgg_shapes(network) if network in VGG_DEPTHS else _resnet_shapes(network)
    return {name: _tensor(seed, name, shape) for name, shape in shapes.items()}


def _tensor(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    low, high = _range(name, shape)
    raw = np.random.PCG64([seed, zlib.crc32(name.encode())]).random_raw(math.prod(shape))
    unit = (np.asarray(raw) >> np.uint64(11)) * 2.0**-53
    return (low + (high - low) * unit).astype(np.float32).reshape(shape)


def _range(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    if len(shape) == 4:
        bound = math.sqrt(6 / math.prod(shape[1:]))
        return -bound, bound
    return (0.5, 1.5) if name.endswith((".weight", ".running_var")) else (-0.2, 0.2)


def _vgg_shapes(network: str) -> Shapes:
    shapes: Shapes = {}
    index, channels = 0, 3
    for depth, width in zip(VGG_DEPTHS[network], VGG_WIDTHS, strict=True):
        for _ in range(depth):
            shapes[f"features.{index}.weight"] = (width, channels, 3, 3)
            shapes[f"features.{index}.bias"] = (width,)
            index, channels = index + 2, width  # a ReLU takes an index of its own, and so does each block's pooling
        index += 1
    return shapes


def _resnet_shapes(network: str) -> Shapes:
    bottleneck = network == "resnet50"
    shapes: Shapes = {"conv1.weight": (64, 3, 7, 7), **_batch_norm("bn1", 64)}
    channels = 64
    for stage, (depth, width) in enumerate(zip(RESNET_DEPTHS[network], RESNET_WIDTHS, strict=True), 1):
        for block in range(depth):
            out = width * BOTTLENECK_EXPANSION if bottleneck else width
            shapes |= _block(f"layer{stage}.{block}", channels, width, out, bottleneck)
            channels = out
    return shapes


def _block(name: str, channels: int, width: int, out: int, bottleneck: bool) -> Shapes:
    """One residual block; it has a projection where it changes the number of channels."""
    basic = ((width, channels, 3, 3), (out, width, 3, 3))
    narrow = ((width, channels, 1, 1), (width, width, 3, 3), (out, width, 1, 1))
    shapes: Shapes = {}
    for i, kernel in enumerate(narrow if bottleneck else basic, 1):
        shapes[f"{name}.conv{i}.weight"] = kernel
        shapes |= _batch_norm(f"{name}.bn{i}", kernel[0])
    if channels != out:
        shapes[f"{name}.downsample.0.weight"] = (out, channels, 1, 1)
        shapes |= _batch_norm(f"{name}.downsample.1", out)
    return shapes


def _batch_norm(name: str, channels: int) -> Shapes:
    vectors: Shapes = {f"{name}.{key}": (channels,) for key in ("weight", "bias", "running_mean", "running_var")}
    return vectors | {f"{name}.num_batches_tracked": ()}
