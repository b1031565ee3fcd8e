"""style-transfer-pytorch (Crowson): 2-Wasserstein distances by matrix square roots, Adam, averaged iterates."""

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import Tensor  # pyright: ignore[reportMissingImports]

from benchmarks.networks import ImageArray
from benchmarks.peers import torch_neural_style
from benchmarks.peers.interface import Settings, Step, Unavailable
from benchmarks.peers.torch_neural_style import Loss, Mode, mse

ITERATIONS = 12
EPS = 1e-4


def square_root(matrix: Tensor) -> Tensor:
    """Square roots of ``(..., c, c)`` by the coupled Newton-Schulz iteration, from a Frobenius norm of 1."""
    norm = matrix.norm(dim=(-2, -1), keepdim=True)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    root, inverse = matrix / norm, eye.expand_as(matrix)
    for _ in range(ITERATIONS):
        factor = 1.5 * eye - 0.5 * inverse @ root
        root, inverse = root @ factor, factor @ inverse
    return root * norm.sqrt()


class SquareRoot(torch.autograd.Function):
    """`square_root` of symmetric matrices.

    The gradient X by the matrix solves R X + X R = G, where R is the root and G the gradient by it. It is found by the
    iteration for the sign of a matrix: S <- S (3 - S²) / 2 converges to the sign of [[R, G], [0, -R]], which is
    [[1, 2 X], [0, -1]], block by block.
    """

    @staticmethod
    def forward(ctx, matrix: Tensor) -> Tensor:
        root = square_root(matrix)
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
    """The mean ``(n, c)``, and the covariance ``(n, c, c)`` with 1e-4 added to its diagonal."""
    rows = layer.flatten(2)
    mean = rows.mean(-1)
    second = rows @ rows.mT / rows.shape[-1]
    eye = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    return mean, second - mean[:, :, None] * mean[:, None, :] + EPS * eye


def traces(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1)


def smoothness(image: Tensor) -> Tensor:
    """Mean squared differences of all eight neighbours, with repeated pixels at the border, summed over the batch."""
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
    """The loss of images in [0, 1], with targets from a content and a style image."""
    weights = torch_neural_style.load_weights(settings.params, Mode())

    def compute(x: Tensor, layers: tuple[str, ...]) -> torch_neural_style.Features:
        inputs = torch_neural_style.to_input(x)
        return torch_neural_style.features(inputs, weights, layers, settings.pooling, replicate=True)

    with torch.no_grad():
        content_target = compute(content, (settings.content_layer,))[settings.content_layer].clone()
        targets = {layer: moments(feature) for layer, feature in compute(style, settings.style_layers).items()}
        roots = {layer: square_root(covariance) for layer, (_, covariance) in targets.items()}
    factors = dict(zip(settings.style_layers, settings.style_layer_weights, strict=True))

    def loss(x: Tensor) -> Tensor:
        found = compute(x, settings.layers)
        total = settings.content_weight * mse(found[settings.content_layer], content_target)
        for layer, factor in factors.items():
            (mean, covariance), (target_mean, target), half = moments(found[layer]), targets[layer], roots[layer]
            middle = SquareRoot.apply(half @ covariance @ half)
            variances = traces(target) + traces(covariance) - 2 * traces(middle)  # pyright: ignore[reportArgumentType]
            distance = mse(mean, target_mean) + variances.sum() / mean.shape[1]
            total = total + settings.style_weight * factor * distance
        return total + settings.tv_weight * smoothness(x)

    return loss


def prepare(content: ImageArray, style: ImageArray, settings: Settings) -> Step:
    """Prepare a run.

    Args:
        content: ``(h, w, 3)`` in [0, 1], or a batch of such images.
        style: Likewise.
        settings: What to minimise, and how.

    Raises:
        Unavailable: Another statistic or pooling.
    """
    if settings.statistic != "wasserstein" or settings.pooling != "max":
        raise Unavailable("it supports only Wasserstein distances and maximum pooling")
    variable, decay = torch_neural_style.to_tensor(content), settings.average
    loss = wasserstein_loss(variable.clone(), torch_neural_style.to_tensor(style), settings)
    average, steps = (1 - decay) * variable.detach().clone(), 0

    def after_update() -> None:
        nonlocal steps
        with torch.no_grad():
            variable.clamp_(0, 1)
            average.mul_(decay).add_(variable, alpha=1 - decay)
        steps += 1

    def image() -> np.ndarray:
        shown = average / (1 - decay ** (steps + 1)) if decay else variable
        return torch_neural_style.to_image(shown, np.shape(content))

    return torch_neural_style.make_step(loss, variable, settings, image, Mode(), after_update)
