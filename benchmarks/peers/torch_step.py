"""What the PyTorch peers have in common: VGG19 as functions, neural-style-pt's losses, and the step."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import Tensor  # pyright: ignore[reportMissingImports]

from benchmarks.networks import ImageArray, Network
from benchmarks.peers.settings import HISTORY, MEAN, Settings, Step, Unavailable

Weights = dict[str, tuple[Tensor, Tensor]]
Features = dict[str, Tensor]
Loss = Callable[[Tensor], Tensor]

POOLINGS = {"max": F.max_pool2d, "avg": F.avg_pool2d}


@dataclasses.dataclass(frozen=True)
class Flavour:
    """How a network is computed: the dtype of its weights and features, their layout, and whether it is compiled.

    ``tf32`` lets matrix products on GPUs round to it; convolutions there do so by PyTorch's own default.
    """

    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    compiled: bool = False
    tf32: bool = False

    def laid_out(self, x: Tensor) -> Tensor:
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return x.to(self.dtype).contiguous(memory_format=layout)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_tensor(image: ImageArray) -> Tensor:
    """``(h, w, 3)`` or a batch of them to ``(n, 3, h, w)``."""
    images = torch.from_numpy(np.array(image, np.float32)).to(device())
    return images.reshape(-1, *image.shape[-3:]).permute(0, 3, 1, 2).contiguous()


def to_image(tensor: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """Back, to an array of that shape."""
    return tensor.detach().permute(0, 2, 3, 1).cpu().numpy().reshape(shape).astype(np.float32)


def per_channel(tensor: Tensor) -> Tensor:
    return torch.tensor(MEAN, device=tensor.device).reshape(1, 3, 1, 1)


def to_input(tensor: Tensor) -> Tensor:
    """RGB in [0, 1] to what the network is fed: BGR, 0-255, minus its mean."""
    return tensor.flip(1) * 255 - per_channel(tensor)


def from_input(tensor: Tensor) -> Tensor:
    return ((tensor + per_channel(tensor)) / 255).flip(1)


def load_weights(params: Network, flavour: Flavour) -> Weights:
    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(array)).to(device())

    return {
        name: (flavour.laid_out(tensor(part["kernel"].transpose(3, 2, 0, 1))), tensor(part["bias"]).to(flavour.dtype))
        for name, part in params.items()
    }


def features(x: Tensor, weights: Weights, layers: Sequence[str], pooling: str, replicate: bool = False) -> Features:
    """The ``layers`` (all after their ReLU) of a network input; nothing deeper is computed.

    ``replicate``: the first convolution continues its input by the border's own pixels.
    """
    taps: Features = {}
    for name, (kernel, bias) in weights.items():
        block, _, index = name.removeprefix("conv").partition("_")
        if index == "1" and block != "1":
            x = POOLINGS[pooling](x, 2)
        padding = 1
        if replicate and name == "conv1_1":
            x, padding = F.pad(x, (1, 1, 1, 1), mode="replicate"), 0
        x = F.relu_(F.conv2d(x, kernel, bias, padding=padding))
        if f"relu{block}_{index}" in layers:
            taps[f"relu{block}_{index}"] = x
        if len(taps) == len(layers):
            break
    return taps


def gram(layer: Tensor) -> Tensor:
    """F Fᵀ / (c h w) of every image, ``(n, c, c)``."""
    rows = layer.flatten(2)
    return (rows @ rows.mT).float() / (rows.shape[1] * rows.shape[2])


def mse(left: Tensor, right: Tensor) -> Tensor:
    """The mean squared difference of each image, summed over the batch."""
    return (left.float() - right.float()).square().flatten(1).mean(1).sum()


def absolute_steps(x: Tensor) -> Tensor:
    return (x[..., 1:, :] - x[..., :-1, :]).abs().sum() + (x[..., 1:] - x[..., :-1]).abs().sum()


def neural_style_loss(content: Tensor, style: Tensor, settings: Settings, flavour: Flavour) -> Loss:
    """neural-style-pt's loss of the network's input, with targets from ``content`` and ``style``, network inputs."""
    weights = load_weights(settings.params, flavour)

    def tapped(x: Tensor, layers: Sequence[str]) -> Features:
        return features(flavour.laid_out(x), weights, layers, settings.pooling)

    with torch.no_grad():
        kept = tapped(content, (settings.content_layer,))[settings.content_layer].clone()
        grams = {layer: gram(tap) for layer, tap in tapped(style, settings.style_layers).items()}
    factors = dict(zip(settings.style_layers, settings.style_layer_weights, strict=True))

    def loss(x: Tensor) -> Tensor:
        taps = tapped(x, settings.layers)
        total = settings.content_weight * mse(taps[settings.content_layer], kept)
        for layer, factor in factors.items():
            total = total + settings.style_weight * factor * mse(gram(taps[layer]), grams[layer])
        return total + settings.tv_weight * absolute_steps(x)

    return loss


def make_optimizer(moved: Tensor, settings: Settings) -> torch.optim.Optimizer:
    if settings.optimizer == "adam":
        return torch.optim.Adam([moved], lr=settings.learning_rate, betas=(0.9, settings.b2))
    if moved.shape[0] > 1:
        raise Unavailable("its L-BFGS minimises one image: the images of a batch would share their step lengths")
    # One iteration a call: the next call goes on with the history, on the path of one call with many iterations.
    return torch.optim.LBFGS([moved], max_iter=1, history_size=HISTORY, tolerance_grad=-1, tolerance_change=-1)


def evaluated(loss: Loss, moved: Tensor) -> Tensor:
    """The loss; its gradient is left in ``moved.grad``."""
    moved.grad = None
    value = loss(moved)
    value.backward()
    return value.detach()


def make_step(
    loss: Loss,
    moved: Tensor,
    settings: Settings,
    image: Callable[[], np.ndarray],
    flavour: Flavour,
    after: Callable[[], None] = lambda: None,
) -> Step:
    """The step that lets an optimiser move ``moved`` down ``loss``; ``after`` comes behind every update."""
    moved.requires_grad_()
    optimizer = make_optimizer(moved, settings)

    def advance() -> list[float]:
        if moved.is_cuda:
            torch.set_float32_matmul_precision("high" if flavour.tf32 else "highest")
        value = optimizer.step(lambda: evaluated(loss, moved))  # pyright: ignore[reportArgumentType, reportCallIssue]
        after()
        if moved.is_cuda:
            torch.cuda.synchronize()
        return [float(value)]

    return Step(advance, image)


def prepare_flavour(content: ImageArray, style: ImageArray, settings: Settings, flavour: Flavour) -> Step:
    """neural-style-pt's step in one flavour: the network's input is what the optimiser moves."""
    if settings.statistic != "gram":
        raise Unavailable(f"it does not know the statistic {settings.statistic!r}")
    moved = to_input(to_tensor(content))
    loss = neural_style_loss(moved.clone(), to_input(to_tensor(style)), settings, flavour)
    if flavour.compiled:
        loss = torch.compile(loss)
    return make_step(loss, moved, settings, lambda: to_image(from_input(moved), np.shape(content)), flavour)
