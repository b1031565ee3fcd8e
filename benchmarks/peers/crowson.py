"""style-transfer-pytorch (Crowson): 2-Wasserstein distances by matrix square roots, Adam, averaged iterates."""

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import Tensor  # pyright: ignore[reportMissingImports]

from benchmarks.networks import ImageArray
from benchmarks.peers import torch_step
from benchmarks.peers.settings import Settings, Step, Unavailable, make_run
from benchmarks.peers.torch_step import Flavour, Loss, mse

ITERATIONS = 12
EPS = 1e-4


def root_of(matrix: Tensor) -> Tensor:
    """The square root of every ``(c, c)`` by the coupled Newton-Schulz iteration, begun at a Frobenius norm of 1."""
    norm = matrix.norm(dim=(-2, -1), keepdim=True)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    root, inverse = matrix / norm, eye.expand_as(matrix)
    for _ in range(ITERATIONS):
        factor = 1.5 * eye - 0.5 * inverse @ root
        root, inverse = root @ factor, factor @ inverse
    return root * norm.sqrt()


class Root(torch.autograd.Function):
    """`root_of` a symmetric matrix, with R X + X R = G for the gradient X, by the iteration for a matrix' sign.

    The sign of [[R, G], [0, -R]] is [[1, 2 X], [0, -1]], and S <- S (3 - S²) / 2 leads there, block by block.
    """

    @staticmethod
    def forward(ctx, matrix: Tensor) -> Tensor:
        root = root_of(matrix)
        ctx.save_for_backward(root)
        return root

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        (root,), (gradient,) = ctx.saved_tensors, gradients
        norm = root.norm(dim=(-2, -1), keepdim=True)
        three = 3 * torch.eye(root.shape[-1], dtype=root.dtype, device=root.device)
        sign, solution = root / norm, gradient / norm
        for _ in range(ITERATIONS):
            rest = three - sign @ sign
            solution = (solution @ rest - sign @ (sign @ solution - solution @ sign)) / 2
            sign = sign @ rest / 2
        return solution / 2


def moments(layer: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``(n, c)`` and covariance + 1e-4 ``(n, c, c)``."""
    rows = layer.flatten(2)
    mean = rows.mean(-1)
    second = rows @ rows.mT / rows.shape[-1]
    eye = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    return mean, second - mean[:, :, None] * mean[:, None, :] + EPS * eye


def traces(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1)


def smoothness(image: Tensor) -> Tensor:
    """Mean squares of differences with all eight neighbours, at a border of repeated pixels; summed over the batch."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    inside = padded[..., 1:-1, 1:-1]
    straight = (padded[..., 1:-1, 2:] - inside, padded[..., 2:, 1:-1] - inside)
    diagonal = (
        padded[..., 1:, 1:] - padded[..., :-1, :-1],
        padded[..., 1:, :-1] - padded[..., :-1, 1:],
    )
    terms = [2 / 3 * step.square().flatten(1).mean(1) for step in straight]
    terms += [1 / 6 * step.square().flatten(1).mean(1) for step in diagonal]
    return torch.stack(terms).sum()


def wasserstein_loss(content: Tensor, style: Tensor, settings: Settings) -> Loss:
    """The loss of images in [0, 1], with the targets of others."""
    weights = torch_step.load_weights(settings.params, Flavour())

    def tapped(x: Tensor, layers: tuple[str, ...]) -> torch_step.Features:
        return torch_step.features(torch_step.to_input(x), weights, layers, settings.pooling, replicate=True)

    with torch.no_grad():
        kept = tapped(content, (settings.content_layer,))[settings.content_layer].clone()
        targets = {layer: moments(tap) for layer, tap in tapped(style, settings.style_layers).items()}
        roots = {layer: root_of(covariance) for layer, (_, covariance) in targets.items()}
    factors = dict(zip(settings.style_layers, settings.style_layer_weights, strict=True))

    def loss(x: Tensor) -> Tensor:
        taps = tapped(x, settings.layers)
        total = settings.content_weight * mse(taps[settings.content_layer], kept)
        for layer, factor in factors.items():
            (mean, covariance), (target_mean, target), half = moments(taps[layer]), targets[layer], roots[layer]
            middle = Root.apply(half @ covariance @ half)
            variances = traces(target) + traces(covariance) - 2 * traces(middle)  # pyright: ignore[reportArgumentType]
            distance = mse(mean, target_mean) + variances.sum() / mean.shape[1]
            total = total + settings.style_weight * factor * distance
        return total + settings.tv_weight * smoothness(x)

    return loss


def prepare(content: ImageArray, style: ImageArray, settings: Settings) -> Step:
    if settings.statistic != "wasserstein" or settings.pooling != "max":
        raise Unavailable("it minimises Wasserstein distances, with the maximum pooling that its default is")
    moved, decay = torch_step.to_tensor(content), settings.average
    loss = wasserstein_loss(moved.clone(), torch_step.to_tensor(style), settings)
    average, counted = torch.zeros_like(moved), [0]

    def after() -> None:
        with torch.no_grad():
            moved.clamp_(0, 1)
            average.mul_(decay).add_(moved, alpha=1 - decay)
        counted[0] += 1

    def image() -> np.ndarray:
        shown = average / (1 - decay ** counted[0]) if decay and counted[0] else moved
        return torch_step.to_image(shown, np.shape(content))

    return torch_step.make_step(loss, moved, settings, image, Flavour(), after)


run = make_run(prepare)
