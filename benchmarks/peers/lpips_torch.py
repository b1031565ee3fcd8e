"""The authors' PyTorch package lpips 0.1.4 with the same weights, channels last or not."""

import sys
import types
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]

from benchmarks.networks import Network
from benchmarks.peers.lpips_interface import Evaluate, Problem


def vgg16(network: Network) -> nn.Sequential:
    """torchvision's ``features`` with these weights."""
    layers: list[nn.Module] = []
    for name, parts in network.items():
        if name.endswith("_1") and layers:
            layers.append(nn.MaxPool2d(2, 2))
        kernel = torch.from_numpy(np.array(parts["kernel"].transpose(3, 2, 0, 1)))
        layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
        layer.weight.data, layer.bias.data = kernel, torch.from_numpy(np.array(parts["bias"]))  # pyright: ignore
        layers += [layer, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def load_package() -> Any:
    """Import lpips without torchvision, which only serves to download weights, and without its trainer."""
    if "lpips" not in sys.modules:
        stand_ins: dict[str, Any] = {name: types.ModuleType(name) for name in ("torchvision", "torchvision.models")}
        stand_ins["torchvision"].models = stand_ins["torchvision.models"]
        added = {name: module for name, module in stand_ins.items() if name not in sys.modules}
        added["lpips.trainer"] = types.ModuleType("lpips.trainer")
        sys.modules.update(added)
        try:
            import lpips  # pyright: ignore[reportMissingImports]
        finally:
            for name in added:
                del sys.modules[name]
        return lpips
    return sys.modules["lpips"]


def prepare(problem: Problem, *, channels_last: bool) -> Evaluate:
    """Prepare an evaluation."""
    package = load_package()
    package.pn.tv = types.SimpleNamespace(
        vgg16=lambda pretrained: types.SimpleNamespace(features=vgg16(problem.network))
    )
    metric = package.LPIPS(net="vgg", verbose=False)
    for head, weights in zip(metric.lins, problem.heads, strict=True):
        head.model[-1].weight.data = torch.from_numpy(weights.reshape(1, -1, 1, 1))
    order = torch.channels_last if channels_last else torch.contiguous_format
    metric = metric.to(memory_format=order)
    for parameter in metric.parameters():
        parameter.requires_grad_(False)

    def tensor(images: np.ndarray) -> Tensor:
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=order)

    image, reference = tensor(problem.images).requires_grad_(), tensor(problem.references)

    def call() -> tuple[float, np.ndarray]:
        image.grad = None
        value = metric(image, reference, normalize=True).sum()
        value.backward()
        assert image.grad is not None
        return float(value.detach()), image.grad.permute(0, 2, 3, 1).numpy()

    return call
