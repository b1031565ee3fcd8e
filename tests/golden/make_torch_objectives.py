"""Objectives of published systems in PyTorch, each written from its description: for `make_torch_presets.py`.

F is the (c, n) matrix of a layer's features, n = h w; MSE is a mean, SSE a sum. Images are (1, 3, h, w) in [0, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from make_torch_golden import IMAGENET_MEAN, IMAGENET_STD, Features, oxford_input, per_channel
from torch import Tensor

STD5 = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONV5 = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
FIRST_FIVE = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")

Comparison = Callable[[Features, Features], Tensor]
Smoothness = Callable[[Tensor], Tensor]  # of an image (1, 3, h, w) in [0, 1]


def nothing(image: Tensor) -> Tensor:
    return 0.0 * image.sum()


@dataclass(frozen=True)
class System:
    """An objective; the weights are in its parts."""

    feed: Callable[[Tensor], Tensor]
    content: Comparison
    style: Comparison
    smoothness: Smoothness = nothing
    pooling: str = "max"
    first_padding: str = "constant"
    prints_smoothness: bool = True


def mse(left: Tensor, right: Tensor) -> Tensor:
    return (left - right).square().mean()


def sse(left: Tensor, right: Tensor) -> Tensor:
    return (left - right).square().sum()


def channels(features: Tensor) -> int:
    return features.shape[1]


def positions(features: Tensor) -> int:
    return features.shape[2] * features.shape[3]


def gram(features: Tensor) -> Tensor:
    """F Fᵀ, (c, c), of features (1, c, h, w)."""
    rows = features[0].flatten(1)
    return rows @ rows.T


def gram_cn(features: Tensor) -> Tensor:
    return gram(features) / (channels(features) * positions(features))


def gram_n(features: Tensor) -> Tensor:
    return gram(features) / positions(features)


def gatys_layer(x: Tensor, style: Tensor) -> Tensor:
    """SSE(F Fᵀ) / (4 c² n²), of images of one size."""
    return sse(gram(x), gram(style)) / (4 * channels(x) ** 2 * positions(x) ** 2)


def over(layers: tuple[str, ...], layer_loss: Callable[[Tensor, Tensor], Tensor]) -> Comparison:
    """The sum of a loss over layers."""
    return lambda x, y: torch.stack([layer_loss(x[layer], y[layer]) for layer in layers]).sum()


def style_of_neural_style(weight: float, layers: tuple[str, ...] = STD5) -> Comparison:
    """weight · Σ MSE(F Fᵀ / (c n))."""
    return over(layers, lambda x, y: weight * mse(gram_cn(x), gram_cn(y)))


def content_mse(weight: float, layer: str) -> Comparison:
    return lambda x, y: weight * mse(x[layer], y[layer])


def neural_style_tf_content(x: Features, y: Features) -> Tensor:
    layer = x["conv4_2"]
    return 5 * sse(layer, y["conv4_2"]) / (2 * channels(layer) ** 0.5 * positions(layer) ** 0.5)


def keras_style(x: Features, y: Features) -> Tensor:
    """(1e-6 / 5) Σ SSE(F Fᵀ) / (4 · 9 · (h w)²), of the image's three channels and its size in every layer."""
    size = positions(x["relu1_1"])
    return over(STD5, lambda x, y: 1e-6 / 5 * sse(gram(x), gram(y)) / (4 * 3**2 * size**2))(x, y)


def torchvision_input(image: Tensor) -> Tensor:
    return (image - per_channel(IMAGENET_MEAN, image)) / per_channel(IMAGENET_STD, image)


def neural_style_input(image: Tensor) -> Tensor:
    """BGR in 0–256, but the mean of 0–255."""
    return image.flip(1) * 256 - per_channel((103.939, 116.779, 123.68), image)


def gordic_input(image: Tensor) -> Tensor:
    return image * 255 - per_channel((123.675, 116.28, 103.53), image)


def anishathalye_input(image: Tensor) -> Tensor:
    """RGB minus the mean. MatConvNet's conv1_1 takes RGB, and is ours with its channels reversed: reverse here."""
    return (image * 255 - per_channel((123.68, 116.779, 103.939), image)).flip(1)


def steps(image: Tensor) -> tuple[Tensor, Tensor]:
    """dx and dy, between all neighbours."""
    return image[..., :, 1:] - image[..., :, :-1], image[..., 1:, :] - image[..., :-1, :]


def inner_steps(image: Tensor) -> tuple[Tensor, Tensor]:
    """dx and dy at the pixels that have both a right and a lower neighbour."""
    pixels = image[..., :-1, :-1]
    return image[..., :-1, 1:] - pixels, image[..., 1:, :-1] - pixels


def absolute_steps(weight: float, scale: float, image: Tensor) -> Tensor:
    return weight * sum(step.abs().sum() for step in steps(image * scale))


def neural_style_smoothness(image: Tensor) -> Tensor:
    """TVLoss in neural_style.lua: its gradient is that of half the squares, without the last row and column."""
    return 1e-3 * 0.5 * sum(step.square().sum() for step in inner_steps(image * 256))


def anishathalye_smoothness(image: Tensor) -> Tensor:
    return 100 * sum(step.square().mean() for step in steps(image * 255))


def keras_smoothness(image: Tensor) -> Tensor:
    dx, dy = inner_steps(image * 255)
    return 1e-6 * (dx.square() + dy.square()).pow(1.25).sum()


def crowson_smoothness(image: Tensor) -> Tensor:
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    inside = padded[..., 1:-1, 1:-1]
    dx, dy = padded[..., 1:-1, 2:] - inside, padded[..., 2:, 1:-1] - inside
    falling = padded[..., 1:, 1:] - padded[..., :-1, :-1]
    rising = padded[..., :-1, 1:] - padded[..., 1:, :-1]
    straight = (dx.square().mean() + dy.square().mean()) / 3
    diagonal = (falling.square().mean() + rising.square().mean()) / 12
    return 2 * 2 * (straight + diagonal)


def newton_schulz_root(matrix: Tensor, iterations: int = 12) -> Tensor:
    """The coupled iteration, begun with the matrix over its Frobenius norm and the identity."""
    norm, eye = matrix.norm(), torch.eye(len(matrix), dtype=matrix.dtype)
    root, inverse = matrix / norm, eye
    for _ in range(iterations):
        factor = 1.5 * eye - 0.5 * inverse @ root
        root, inverse = root @ factor, factor @ inverse
    return root * norm.sqrt()


class NewtonSchulzTrace(torch.autograd.Function):
    """The trace of a root R; its gradient X solves R X + X R = 1, by a Newton iteration for the sign of a block matrix.

    All matrices commute with R here, which shortens the iteration to X <- X (3 - R²) / 2.
    """

    @staticmethod
    def forward(ctx, matrix: Tensor) -> Tensor:
        root = newton_schulz_root(matrix)
        ctx.save_for_backward(root)
        return root.trace()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (root,) = ctx.saved_tensors
        norm, eye = root.norm(), torch.eye(len(root), dtype=root.dtype)
        sign, solution = root / norm, eye / norm
        for _ in range(12):
            factor = 1.5 * eye - 0.5 * sign @ sign
            sign, solution = sign @ factor, solution @ factor
        return gradient * solution / 2


def exact_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.sqrt()) @ vectors.T


def exact_trace_of_root(matrix: Tensor) -> Tensor:
    return torch.linalg.eigvalsh((matrix + matrix.T) / 2).sqrt().sum()


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance + 1e-4."""
    rows = features[0].flatten(1)
    mean = rows.mean(1)
    second = rows @ rows.T / rows.shape[1]
    return mean, second - torch.outer(mean, mean) + 1e-4 * torch.eye(len(mean), dtype=mean.dtype)


def wasserstein_layer(
    root: Callable[[Tensor], Tensor], trace_of_root: Callable[[Tensor], Tensor], x: Tensor, style: Tensor
) -> Tensor:
    (mean, covariance), (target_mean, target) = moments(x), moments(style)
    half = root(target)
    variances = target.trace() + covariance.trace() - 2 * trace_of_root(half @ covariance @ half)
    return mse(mean, target_mean) + variances / channels(x)


def crowson(root: Callable[[Tensor], Tensor], trace_of_root: Callable[[Tensor], Tensor]) -> System:
    def style(x: Features, y: Features) -> Tensor:
        distances = [wasserstein_layer(root, trace_of_root, x[layer], y[layer]) for layer in STD5]
        return sum(weight / 341 * distance for weight, distance in zip((256, 64, 16, 4, 1), distances, strict=True))

    content = content_mse(0.015, "relu4_2")
    return System(torchvision_input, content, style, crowson_smoothness, first_padding="replicate")


SYSTEMS: dict[str, System] = {
    "gatys2016": System(
        oxford_input,
        lambda x, y: 0.5 * sse(x["conv4_2"], y["conv4_2"]),
        over(CONV5, lambda x, y: 1e3 / 5 * gatys_layer(x, y)),
        pooling="avg",
    ),
    "gatys2017": System(
        oxford_input,
        content_mse(1.0, "relu4_2"),
        over(STD5, lambda x, y: 1e3 / channels(x) ** 2 * mse(gram_n(x), gram_n(y))),
    ),
    "neural-style": System(
        neural_style_input,
        content_mse(5.0, "relu4_2"),
        style_of_neural_style(100.0),
        neural_style_smoothness,
        prints_smoothness=False,
    ),
    "neural-style-pt": System(
        oxford_input,
        content_mse(5.0, "relu4_2"),
        style_of_neural_style(100.0),
        partial(absolute_steps, 1e-3, 255.0),
    ),
    "gordic": System(
        gordic_input,
        content_mse(1e5, "relu4_2"),
        over(STD5, lambda x, y: 3e4 / 5 * sse(gram_cn(x), gram_cn(y))),
        partial(absolute_steps, 1.0, 255.0),
    ),
    "crowson": crowson(newton_schulz_root, NewtonSchulzTrace.apply),
    "crowson-exact": crowson(exact_root, exact_trace_of_root),
    "anishathalye": System(
        anishathalye_input,
        content_mse(5.0, "relu4_2"),
        style_of_neural_style(500 * 0.2),
        anishathalye_smoothness,
    ),
    "neural-style-tf": System(
        oxford_input,
        neural_style_tf_content,
        over(STD5, lambda x, y: 1e4 / 5 * 0.2 * gatys_layer(x, y)),
        partial(absolute_steps, 1e-3, 255.0),
        pooling="avg",
    ),
    "pytorch-tutorial": System(torchvision_input, content_mse(1.0, "conv2_2"), style_of_neural_style(1e6, FIRST_FIVE)),
    "tf-tutorial": System(
        oxford_input,
        content_mse(1e4, "relu5_2"),
        over(STD5, lambda x, y: 1e-2 / 5 * mse(gram_n(x), gram_n(y))),
        partial(absolute_steps, 30.0, 1.0),
    ),
    "tf-blogpost": System(
        oxford_input,
        content_mse(1e3, "relu5_2"),
        over(STD5, lambda x, y: 1e-2 / 5 * mse(gram_n(x), gram_n(y))),
    ),
    "keras-example": System(
        oxford_input,
        lambda x, y: 2.5e-8 * sse(x["relu5_2"], y["relu5_2"]),
        keras_style,
        keras_smoothness,
    ),
}
"""By their presets' names; `crowson-exact` takes the roots, and their gradients, that `crowson` approximates."""
