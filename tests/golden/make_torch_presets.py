"""Golden values of published systems' objectives, computed with PyTorch in float64.

Run from the repository's root (it needs torch):

    python tests/golden/make_torch_presets.py

It writes `torch_presets.npz`. The network is `narrow_vgg19.narrow_vgg19()`, fed as the system feeds its own VGG19. In
the npz, with POINTS content, noise, half-way and PARTS content, style, tv:

- `content`, `noise`, `half-way`: (48, 64, 3), float32 sRGB in [0, 1], the three images to evaluate. `content` is the
  content image, too.
- `style`: (32, 80, 3), the style image. `style_same`: (48, 64, 3), that of the systems in `same_size`, whose formulas
  want both images of one size.
- `positions`: (n,), nearly 300 indices into a flattened image, at which gradients are kept.
- `torch`: the version of PyTorch.

and of every system:

- `SYSTEM/total`: (points,), float64, the objective's value as the system's own program adds it up.
- `SYSTEM/parts`: (points, parts), float64, its weighted parts.
- `SYSTEM/gradient`: (points, parts, n), float32, each part's gradient by the image in [0, 1].
- `SYSTEM/norm` and `SYSTEM/largest`: (points, parts), float64, the 2-norm and the largest magnitude of each whole
  gradient.

`crowson` takes square roots as its program does, by 12 Newton-Schulz iterations, and their gradient by 12 more for
Lyapunov's equation; `crowson-exact` takes both from eigenvalues.
"""

from pathlib import Path

import numpy as np
import torch
from make_torch_golden import POOLS, Arrays, Convolutions, Features, vgg
from make_torch_objectives import SYSTEMS, System
from narrow_vgg19 import DEPTHS, SEED, narrow_vgg19, uniform
from torch import Tensor

SIZE = (48, 64)
STYLE_SIZE = (32, 80)
POINTS = ("content", "noise", "half-way")
POSITIONS = 300
SAME_SIZE = ("gatys2016", "neural-style-tf", "keras-example")


def waves(height: int, width: int, rows: float, columns: float) -> np.ndarray:
    """Smooth colours in (0.2, 0.8), (h, w, 3)."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return 0.5 + 0.3 * np.stack([np.sin(rows * y + columns * x + 2 * k) * np.cos(0.02 * k * x) for k in range(3)], -1)


def noise(name: str, height: int, width: int) -> np.ndarray:
    return uniform(name, height * width * 3).reshape(height, width, 3)


def rounded(image: np.ndarray) -> np.ndarray:
    """In steps of 1/1024: float32 holds differences of such pixels exactly."""
    return (np.round(np.clip(image, 0, 1) * 1024) / 1024).astype(np.float32)


def make_images() -> Arrays:
    content = waves(*SIZE, 0.13, 0.07) + 0.1 * noise("content", *SIZE)
    style_same = waves(*SIZE, 0.9, -0.6) + 0.2 * noise("style_same", *SIZE)
    images = {
        "content": content,
        "noise": 0.5 + 0.5 * noise("noise", *SIZE),
        "half-way": (content + style_same) / 2 + 0.05 * noise("half-way", *SIZE),
        "style": waves(*STYLE_SIZE, 0.9, -0.6) + 0.2 * noise("style", *STYLE_SIZE),
        "style_same": style_same,
    }
    return {name: rounded(image) for name, image in images.items()}


def as_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).double().permute(2, 0, 1)[None]


def convolutions() -> Convolutions:
    layers = narrow_vgg19().items()
    return {
        name: (torch.from_numpy(kernel).permute(3, 2, 0, 1), torch.from_numpy(bias)) for name, (kernel, bias) in layers
    }


def evaluate(system: System, image: Tensor, content: Features, style: Features) -> tuple[np.ndarray, np.ndarray]:
    """The parts, (3,), and their gradients, (3, h, w, 3)."""
    image = image.clone().requires_grad_()
    features = network(system, image)
    parts = [system.content(features, content), system.style(features, style), system.smoothness(image)]
    gradients = [torch.autograd.grad(part, image, retain_graph=True)[0] for part in parts]
    printed = (True, True, system.prints_smoothness)
    values = np.array([part.item() * counts for part, counts in zip(parts, printed, strict=True)])
    return values, torch.cat(gradients).permute(0, 2, 3, 1).numpy()


def network(system: System, image: Tensor) -> Features:
    modes = (system.first_padding, "constant")
    return vgg(convolutions(), system.feed(image), DEPTHS, POOLS[system.pooling], modes)


def measure(name: str, images: dict[str, Tensor], kept: np.ndarray) -> Arrays:
    """What is stored of one system."""
    system = SYSTEMS[name]
    with torch.no_grad():
        content = network(system, images["content"])
        style = network(system, images["style_same" if name in SAME_SIZE else "style"])
    points = [evaluate(system, images[point], content, style) for point in POINTS]
    parts, gradients = (np.stack(column) for column in zip(*points, strict=True))
    flat = gradients.reshape(*parts.shape, -1)
    return {
        f"{name}/total": parts.sum(-1),
        f"{name}/parts": parts,
        f"{name}/gradient": flat[..., kept].astype(np.float32),
        f"{name}/norm": np.linalg.norm(flat, axis=-1),
        f"{name}/largest": np.abs(flat).max(-1),
    }


def main() -> None:
    images = make_images()
    tensors = {name: as_tensor(image) for name, image in images.items()}
    drawn = np.asarray(np.random.PCG64(SEED).random_raw(POSITIONS)) % np.uint64(images["content"].size)
    kept = np.unique(drawn).astype(np.int32)
    stored = images | {"positions": kept, "same_size": np.array(SAME_SIZE), "torch": np.array(torch.__version__)}
    for name in SYSTEMS:
        stored |= measure(name, tensors, kept)
    np.savez_compressed(Path(__file__).with_name("torch_presets.npz"), **stored)


if __name__ == "__main__":
    main()
