"""Golden values of LPIPS, DISTS, SSIM and MS-SSIM, computed in float64 by PyTorch packages.

Run from the repository's root (it needs torch, and lpips, DISTS_pytorch and piq, which may be installed
without their dependencies):

    python tests/golden/make_torch_metrics.py NETWORKS SQUEEZENET DISTS

- NETWORKS: a folder with torchvision's weights of the networks under torchvision's names, `vgg16.npz` and `alexnet.npz`
  (tensors `features.0.weight` …, in OIHW order).
- SQUEEZENET: a complete LPIPS model of SqueezeNet (`lpips_squeeze.pt`), which contains torchvision's network.
- DISTS: `weights.pt` of DISTS_pytorch.

The packages' own code runs on these networks, which take the place of torchvision's downloads. All pairs are those of
`formula_images.formula_pairs`. It writes `torch_metrics.npz`:

- `lpips/NET/HxW`, `dists/HxW`: one value for each pair. `lpips_gradient/NET`, `dists_gradient`: the norms of their
  gradients by the first image, at the first size.
- `lpips_map/NET`: LPIPS' spatial map of the last pair of the first size, (h, w).
- `ssim/HxW`, `ms_ssim/HxW`: values of piq. At an odd size, where its MS-SSIM pads with zeros, by its SSIM at each
  scale, halved by `avg_pool2d`.
- `versions`: versions as JSON.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from formula_images import formula_pairs
from torch import Tensor, nn

PAIRS = 10
SIZES = ((33, 47), (64, 48))
"""Ten pairs of each."""
SCALED_SIZE, ODD_SIZE = (176, 208), (187, 179)
SCALED_PAIRS = 4
EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales of MS-SSIM (Wang, Simoncelli & Bovik 2003, section 3.2)."""

ALEXNET = [(64, 11, 4, 2), "relu", "pool", (192, 5, 1, 2), "relu", "pool"]
ALEXNET += [(384, 3, 1, 1), "relu", (256, 3, 1, 1), "relu", (256, 3, 1, 1), "relu"]
VGG16: list[Any] = []
for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
    VGG16 += [layer for _ in range(depth) for layer in ((width, 3, 1, 1), "relu")] + ["halve"]


def plain(layers: list[Any], state: dict[str, Tensor]) -> nn.Sequential:
    """torchvision's `features` of a network without branches."""
    made: list[nn.Module] = []
    channels = 3
    for layer in layers:
        if layer == "relu":
            made.append(nn.ReLU())
        elif isinstance(layer, str):
            made.append(nn.MaxPool2d(3 if layer == "pool" else 2, 2))
        else:
            width, size, stride, padding = layer
            made.append(nn.Conv2d(channels, width, size, stride, padding))
            channels = width
    network = nn.Sequential(*made)
    network.load_state_dict({name.removeprefix("features."): tensor for name, tensor in state.items()})
    return network


class Fire(nn.Module):
    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu()


def squeezenet(path: Path) -> nn.Sequential:
    """torchvision's `features` of SqueezeNet 1.1, from the slices of an LPIPS model."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 2), nn.ReLU()]
    channels = 64
    for squeeze, expand, pooled in ((16, 64, 1), (16, 64, 0), (32, 128, 1), (32, 128, 0), (48, 192, 1), (48, 192, 0),
                                    (64, 256, 0), (64, 256, 0)):  # fmt: skip
        layers += [nn.MaxPool2d(3, 2, ceil_mode=True)] if pooled else []
        layers.append(Fire(channels, squeeze, expand))
        channels = 2 * expand
    network = nn.Sequential(*layers)
    state = torch.load(path, map_location="cpu", weights_only=True)
    names = {name: name.split(".", 2)[2] for name in state if name.startswith("net.slice")}
    network.load_state_dict({new: state[old] for old, new in names.items()})
    return network


def install_torchvision(networks: Path, squeezenet_file: Path) -> None:
    """Let `from torchvision import models` give networks with these weights."""

    def state(name: str) -> dict[str, Tensor]:
        with np.load(networks / f"{name}.npz") as file:
            return {key: torch.from_numpy(file[key]) for key in file}

    def maker(features: nn.Sequential) -> Any:
        return lambda pretrained=True: types.SimpleNamespace(features=features)

    torchvision: Any = types.ModuleType("torchvision")
    torchvision.models = types.ModuleType("torchvision.models")
    torchvision.transforms = types.ModuleType("torchvision.transforms")
    torchvision.models.alexnet = maker(plain(ALEXNET, state("alexnet")))
    torchvision.models.vgg16 = maker(plain(VGG16, state("vgg16")))
    torchvision.models.squeezenet1_1 = maker(squeezenet(squeezenet_file))
    modules = {"torchvision": torchvision, "torchvision.models": torchvision.models}
    trainer = types.ModuleType("lpips.trainer")  # needs SciPy and is not used
    sys.modules.update(modules | {"torchvision.transforms": torchvision.transforms, "lpips.trainer": trainer})


def tensors(count: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Pairs as float64 tensors (count, 3, h, w)."""
    image, reference = (torch.from_numpy(images).double().permute(0, 3, 1, 2) for images in formula_pairs(count, *size))
    return image, reference


def gradient_norms(distance: Any, image: Tensor, reference: Tensor) -> Tensor:
    image = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(distance(image, reference).sum(), image)
    return gradient.flatten(1).norm(dim=1)


def lpips_values(found: dict[str, Tensor]) -> None:
    import lpips

    for net in ("alex", "vgg", "squeeze"):
        metric = lpips.LPIPS(net=net, verbose=False).double()
        for height, width in SIZES:
            value = metric(*tensors(PAIRS, (height, width)), normalize=True)
            found[f"lpips/{net}/{height}x{width}"] = value.flatten()
        pairs = tensors(PAIRS, SIZES[0])
        found[f"lpips_gradient/{net}"] = gradient_norms(lambda x, y, m=metric: m(x, y, normalize=True), *pairs)
        metric.spatial = True
        found[f"lpips_map/{net}"] = metric(*(each[-1:] for each in pairs), normalize=True)[0, 0]


def dists_values(found: dict[str, Tensor], weights: Path) -> None:
    from DISTS_pytorch import DISTS

    metric = DISTS(load_weights=False)
    for name, tensor in torch.load(weights, map_location="cpu", weights_only=True).items():
        getattr(metric, name).data = tensor
    metric = metric.double()
    for height, width in SIZES:
        found[f"dists/{height}x{width}"] = metric(*tensors(PAIRS, (height, width)))
    found["dists_gradient"] = gradient_norms(lambda x, y: metric(x, y, require_grad=True), *tensors(PAIRS, SIZES[0]))


def structural_values(found: dict[str, Tensor]) -> None:
    piq: Any = types.ModuleType("piq")  # without its other metrics, which need torchvision
    piq.__path__ = list(importlib.util.find_spec("piq").submodule_search_locations)  # pyright: ignore
    sys.modules["piq"] = piq
    from piq.ms_ssim import multi_scale_ssim
    from piq.ssim import ssim

    image, reference = tensors(PAIRS, SIZES[0])
    size = "x".join(map(str, SIZES[0]))
    found[f"ssim/{size}"] = ssim(image, reference, reduction="none", downsample=False)
    image, reference = tensors(SCALED_PAIRS, SCALED_SIZE)
    size = "x".join(map(str, SCALED_SIZE))
    found[f"ms_ssim/{size}"] = multi_scale_ssim(image, reference, reduction="none")
    # Channels as images of their own, because with `full` the values are means over channels.
    image, reference = (each.flatten(0, 1)[:, None] for each in tensors(SCALED_PAIRS, ODD_SIZE))
    size = "x".join(map(str, ODD_SIZE))
    product = torch.ones(3 * SCALED_PAIRS, dtype=image.dtype)
    for scale, exponent in enumerate(EXPONENTS, 1):
        similarity, contrast = ssim(image, reference, reduction="none", downsample=False, full=True)
        product = product * (contrast if scale < len(EXPONENTS) else similarity).clamp(min=0) ** exponent
        image, reference = F.avg_pool2d(image, 2), F.avg_pool2d(reference, 2)
    found[f"ms_ssim/{size}"] = product.reshape(-1, 3).mean(1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes golden values of metrics, computed with PyTorch.")
    parser.add_argument("networks", type=Path)
    parser.add_argument("squeezenet", type=Path)
    parser.add_argument("dists", type=Path)
    options = parser.parse_args()
    found: dict[str, Tensor] = {}
    structural_values(found)
    install_torchvision(options.networks, options.squeezenet)
    lpips_values(found)
    dists_values(found, options.dists)
    packages = ("torch", "numpy", "lpips", "DISTS_pytorch", "piq")
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
    arrays: dict[str, Any] = {name: tensor.detach().numpy() for name, tensor in found.items()}
    arrays |= {name: array.astype(np.float32) for name, array in arrays.items() if name.startswith("lpips_map/")}
    np.savez_compressed(Path(__file__).with_name("torch_metrics.npz"), **arrays, versions=json.dumps(versions))


if __name__ == "__main__":
    main()
