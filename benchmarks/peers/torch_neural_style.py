"""neural-style-pt (ProGamerGov) in PyTorch: a frozen VGG19 as functions, its losses, and the step.

By default float32 and channels first, as PyTorch runs it by itself. The options of `prepare` choose other modes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import Tensor  # pyright: ignore[reportMissingImports]

from benchmarks.networks import ImageArray, Network
from benchmarks.peers.interface import HISTORY, MEAN, Settings, Step, Unavailable

Weights = dict[str, tuple[Tensor, Tensor]]
Features = dict[str, Tensor]
Loss = Callable[[Tensor], Tensor]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
POOLINGS = {"max": F.max_pool2d, "avg": F.avg_pool2d}


@dataclasses.dataclass(frozen=True)
class Mode:
    """How a network is computed.

    Attributes:
        dtype: The dtype of weights and features: "float32" or "bfloat16". The image stays float32.
        channels_last: Whether features are stored with their channels last.
        compiled: Whether the loss and its gradient are compiled by torch.compile.
        tf32: Whether matrix products on GPUs use TF32. Convolutions there do so by PyTorch's default.
    """

    dtype: str = "float32"
    channels_last: bool = False
    compiled: bool = False
    tf32: bool = False

    def convert(self, x: Tensor) -> Tensor:
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return x.to(DTYPES[self.dtype]).contiguous(memory_format=layout)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_tensor(image: ImageArray) -> Tensor:
    """Convert an image ``(h, w, 3)``, or a batch of images, to ``(n, 3, h, w)``."""
    images = torch.from_numpy(np.array(image, np.float32)).to(device())
    return images.reshape(-1, *image.shape[-3:]).permute(0, 3, 1, 2).contiguous()


def to_image(tensor: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """Convert images ``(n, 3, h, w)`` to an array of the given shape."""
    return tensor.detach().permute(0, 2, 3, 1).cpu().numpy().reshape(shape).astype(np.float32)


def channel_means(tensor: Tensor) -> Tensor:
    return torch.tensor(MEAN, device=tensor.device).reshape(1, 3, 1, 1)


def to_input(tensor: Tensor) -> Tensor:
    """Convert RGB in [0, 1] to the network's input: BGR, 0-255, minus the mean."""
    return tensor.flip(1) * 255 - channel_means(tensor)


def from_input(tensor: Tensor) -> Tensor:
    return ((tensor + channel_means(tensor)) / 255).flip(1)


def load_weights(params: Network, mode: Mode) -> Weights:
    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(array)).to(device())

    return {
        name: (mode.convert(tensor(part["kernel"].transpose(3, 2, 0, 1))), tensor(part["bias"]).to(DTYPES[mode.dtype]))
        for name, part in params.items()
    }


def features(x: Tensor, weights: Weights, layers: Sequence[str], pooling: str, replicate: bool = False) -> Features:
    """Compute features, nothing deeper than the deepest of them.

    Args:
        x: The network's input.
        weights: From `load_weights`.
        layers: Names of layers after their ReLU.
        pooling: A key of `POOLINGS`.
        replicate: Whether the input is padded with its border pixels, instead of zeros.
    """
    found: Features = {}
    for name, (kernel, bias) in weights.items():
        block, _, index = name.removeprefix("conv").partition("_")
        if index == "1" and block != "1":
            x = POOLINGS[pooling](x, 2)
        padding = 1
        if replicate and name == "conv1_1":
            x, padding = F.pad(x, (1, 1, 1, 1), mode="replicate"), 0
        x = F.relu_(F.conv2d(x, kernel, bias, padding=padding))
        if f"relu{block}_{index}" in layers:
            found[f"relu{block}_{index}"] = x
        if len(found) == len(layers):
            break
    return found


def gram(layer: Tensor) -> Tensor:
    """F Fᵀ / (c h w) of each image, ``(n, c, c)``."""
    rows = layer.flatten(2)
    return (rows @ rows.mT).float() / (rows.shape[1] * rows.shape[2])


def mse(left: Tensor, right: Tensor) -> Tensor:
    """The mean squared difference of each image, summed over the batch."""
    return (left.float() - right.float()).square().flatten(1).mean(1).sum()


def total_variation(x: Tensor) -> Tensor:
    return (x[..., 1:, :] - x[..., :-1, :]).abs().sum() + (x[..., 1:] - x[..., :-1]).abs().sum()


def neural_style_loss(content: Tensor, style: Tensor, settings: Settings, mode: Mode) -> Loss:
    """neural-style-pt's loss of a network input, with targets from ``content`` and ``style``, also network inputs."""
    weights = load_weights(settings.params, mode)

    def compute(x: Tensor, layers: Sequence[str]) -> Features:
        return features(mode.convert(x), weights, layers, settings.pooling)

    with torch.no_grad():
        target = compute(content, (settings.content_layer,))[settings.content_layer].clone()
        grams = {layer: gram(feature) for layer, feature in compute(style, settings.style_layers).items()}
    factors = dict(zip(settings.style_layers, settings.style_layer_weights, strict=True))

    def loss(x: Tensor) -> Tensor:
        found = compute(x, settings.layers)
        total = settings.content_weight * mse(found[settings.content_layer], target)
        for layer, factor in factors.items():
            total = total + settings.style_weight * factor * mse(gram(found[layer]), grams[layer])
        return total + settings.tv_weight * total_variation(x)

    return loss


def make_optimizer(variable: Tensor, settings: Settings) -> torch.optim.Optimizer:
    if settings.optimizer == "adam":
        return torch.optim.Adam([variable], lr=settings.learning_rate, betas=(0.9, settings.b2))
    if variable.shape[0] > 1:
        raise Unavailable("its L-BFGS supports only one image: the images of a batch would share their step lengths")
    # One iteration a call. The next call continues with the history, so that many calls equal one with many iterations.
    return torch.optim.LBFGS([variable], max_iter=1, history_size=HISTORY, tolerance_grad=-1, tolerance_change=-1)


def evaluate(loss: Loss, variable: Tensor) -> Tensor:
    """Evaluate the loss, and put its gradient into ``variable.grad``."""
    variable.grad = None
    value = loss(variable)
    value.backward()
    return value.detach()


def make_step(
    loss: Loss,
    variable: Tensor,
    settings: Settings,
    image: Callable[[], np.ndarray],
    mode: Mode,
    after_update: Callable[[], None] = lambda: None,
) -> Step:
    """A run that minimises ``loss`` over ``variable``, and calls ``after_update`` after every update."""
    variable.requires_grad_()
    optimizer = make_optimizer(variable, settings)

    def advance() -> list[float]:
        if variable.is_cuda:
            torch.set_float32_matmul_precision("high" if mode.tf32 else "highest")
        value = optimizer.step(lambda: evaluate(loss, variable))  # pyright: ignore[reportArgumentType, reportCallIssue]
        after_update()
        if variable.is_cuda:
            torch.cuda.synchronize()
        return [float(value)]

    return Step(advance, image)


def prepare(content: ImageArray, style: ImageArray, settings: Settings, **options: Any) -> Step:
    """Prepare a run. The optimiser sees the network's input.

    Args:
        content: ``(h, w, 3)`` in [0, 1], or a batch of such images.
        style: Likewise.
        settings: What to minimise, and how.
        **options: As for `Mode`.

    Raises:
        Unavailable: Another statistic, L-BFGS with a batch, or torch.compile fails: it needs a C++ compiler, and on
            GPUs Triton.
    """
    if settings.statistic != "gram":
        raise Unavailable(f"it does not have the statistic {settings.statistic!r}")
    mode = Mode(**options)
    start = partial(_start, content, style, settings, mode)
    if mode.compiled:
        try:
            # The run that is returned finds what this one compiles.
            start().advance()
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise Unavailable(f"torch.compile fails: {reason}") from error
    return start()


def _start(content: ImageArray, style: ImageArray, settings: Settings, mode: Mode) -> Step:
    variable = to_input(to_tensor(content))
    loss = neural_style_loss(variable.clone(), to_input(to_tensor(style)), settings, mode)
    if mode.compiled:
        loss = torch.compile(loss)
    return make_step(loss, variable, settings, lambda: to_image(from_input(variable), np.shape(content)), mode)
