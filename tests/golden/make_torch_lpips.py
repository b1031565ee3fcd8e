"""Golden LPIPS distances, computed with PyTorch in float64.

Run from the repository's root, with the folder of pretrained weights (it needs torch):

    python tests/golden/make_torch_lpips.py ../shared/weights

It writes `torch_lpips.json`: versions, the seed of the random weights, and a list of distances. Each is between the two
images of `formula_images.formula_pair(height, width)`, with the norm of its gradient by the first of them:

- network "squeezenet1.1": the published LPIPS model.
- network "vgg16": `random_weights.random_state_dict("vgg16", seed)` with LPIPS' published heads: the numbers prove
  the arithmetic, not the quality.
"""

import argparse
import json
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from formula_images import formula_pair
from make_torch_golden import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LPIPS_KEPT,
    POOLS,
    Features,
    lpips_squeezenet,
    per_channel,
    read_lpips,
    vgg,
)
from random_weights import VGG_DEPTHS, random_state_dict
from torch import Tensor

SEED = 1
SIZES = {"squeezenet1.1": ((64, 64), (33, 47), (17, 17)), "vgg16": ((35, 41),)}
VGG16_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")


def squeeze(weights: Path) -> tuple[Callable[[Tensor], Features], tuple[str, ...], Features]:
    """The network, its layers, and a state dict with the heads."""
    convolutions, state = read_lpips(weights / "lpips-squeeze/lpips_squeeze.pt")
    return partial(lpips_squeezenet, convolutions, state), tuple(LPIPS_KEPT), state


def random_vgg16(weights: Path) -> tuple[Callable[[Tensor], Features], tuple[str, ...], Features]:
    """The same of VGG16; convolutions take their names in the order of their positions."""
    state = {name: torch.from_numpy(array) for name, array in random_state_dict("vgg16", SEED).items()}
    depths = VGG_DEPTHS["vgg16"]
    layers = [f"conv{block}_{index}" for block, depth in enumerate(depths, 1) for index in range(1, depth + 1)]
    tensors = list(state.values())
    convolutions = dict(zip(layers, zip(tensors[::2], tensors[1::2], strict=True), strict=True))

    def network(image: Tensor) -> Features:
        x = (image - per_channel(IMAGENET_MEAN, image)) / per_channel(IMAGENET_STD, image)
        return vgg(convolutions, x, depths, POOLS["max"], ("constant", "constant"))

    heads = torch.load(weights / "lpips-heads/vgg.pth", map_location="cpu", weights_only=True)
    return network, VGG16_LAYERS, heads


def distance(
    network: Callable[[Tensor], Features], layers: tuple[str, ...], heads: Features, image: Tensor, reference: Tensor
) -> Tensor:
    """LPIPS v0.1 of two images (1, 3, h, w) in [0, 1]."""
    total = torch.zeros((), dtype=image.dtype)
    taps, targets = network(image), network(reference)
    for index, layer in enumerate(layers):
        unit = [f[layer] / (f[layer].square().sum(1, keepdim=True).sqrt() + 1e-10) for f in (taps, targets)]
        head = heads[f"lin{index}.model.1.weight"].to(image.dtype)
        total = total + torch.nn.functional.conv2d((unit[0] - unit[1]).square(), head).mean()
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes golden LPIPS distances, computed with PyTorch.")
    parser.add_argument("weights", type=Path, help="the folder of pretrained weights")
    weights: Path = parser.parse_args().weights
    models = {"squeezenet1.1": squeeze(weights), "vgg16": random_vgg16(weights)}
    records: list[dict[str, str | int | float]] = []
    for name, sizes in SIZES.items():
        for height, width in sizes:
            image, reference = (
                torch.from_numpy(picture).double().permute(2, 0, 1)[None] for picture in formula_pair(height, width)
            )
            value = distance(*models[name], image.requires_grad_(), reference)
            (gradient,) = torch.autograd.grad(value, image)
            record = {"network": name, "height": height, "width": width}
            records.append(record | {"distance": value.item(), "gradient_norm": gradient.norm().item()})
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    facts = {"versions": versions, "seed": SEED, "distances": records}
    Path(__file__).with_name("torch_lpips.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
