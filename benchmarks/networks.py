"""The network and the images that all peers are given.

jnst and JAX are imported only where they are needed, so that they do not count in processes whose memory is measured.
"""

from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

Network = dict[str, dict[str, np.ndarray]]
"""``{"conv1_1": {"kernel": (3, 3, c_in, c_out), "bias": (c_out,)}, ...}``, float32, in order of depth."""

ImageArray = np.ndarray
"""``(h, w, 3)`` float32 sRGB in [0, 1]."""

SEED = 19
LAST = "conv5_1"
OXFORD = Path("weights/vgg19-oxford-tfjs/model.json")
CONTENT, STYLE = Path("images/content/kodim23_parrots.png"), Path("images/style/starry_night.jpg")


def vgg19(shared: Path | None = None, weights: Path | None = None, last: str = LAST) -> Network:
    """VGG19 from ``conv1_1`` to ``last``, with real weights where there are some, else He-normal from a fixed seed.

    Args:
        shared: A folder with `OXFORD`, whose file may be partial.
        weights: A weights file to use instead.
        last: The last convolution.
    """
    from jnst.backbones import param_shapes
    from jnst.weights import read_weights

    path = weights or (shared and shared / OXFORD)
    known = read_weights(path, "vgg19").params if path else {}
    network: Network = {}
    for index, (name, shape) in enumerate(param_shapes("vgg19").items()):
        layer, _, part = name.partition("/")
        values = known[name] if name in known else _random(index, shape)
        network.setdefault(layer, {})[part] = np.asarray(values, np.float32)
    names = list(network)
    return {name: network[name] for name in names[: names.index(last) + 1]}


def _random(index: int, shape: tuple[int, ...]) -> np.ndarray:
    """Draw a He-normal kernel, or return a bias of zeros."""
    if len(shape) == 1:
        return np.zeros(shape)
    return np.random.default_rng([SEED, index]).normal(0.0, np.sqrt(2 / np.prod(shape[:-1])), shape)


def square_images(shared: Path | None, size: int) -> tuple[ImageArray, ImageArray]:
    """A content and a style image, ``(size, size, 3)``: from ``shared``, or the demo's images without it."""
    if shared is None:
        from jnst.images.demo import content_image, style_image

        return content_image(size, size).astype(np.float32), style_image(size, size).astype(np.float32)
    content, style = (
        as_floats(ImageOps.fit(_open(shared / path), (size, size), Pillow.Resampling.BICUBIC))
        for path in (CONTENT, STYLE)
    )
    return content, style


def write_inputs(path: Path, network: Network, content: ImageArray, style: ImageArray) -> None:
    """Write a network's parameters and two images to a file, for another process."""
    layers = {f"{layer}/{part}": array for layer, parts in network.items() for part, array in parts.items()}
    np.savez(path, content=content, style=style, **layers)  # pyright: ignore[reportArgumentType]


def read_inputs(path: Path) -> tuple[Network, ImageArray, ImageArray]:
    """Read what `write_inputs` wrote."""
    network: Network = {}
    with np.load(path) as file:
        for name in file.files:
            layer, _, part = name.partition("/")
            if part:
                network.setdefault(layer, {})[part] = file[name]
        return network, file["content"], file["style"]


def sized_image(path: Path, size: int) -> ImageArray:
    """Load an image as neural-style-pt does: its longer side is ``size``, fractions are cut off, bilinear."""
    image = _open(path)
    factor = size / max(image.size)
    width, height = (int(factor * side) for side in image.size)
    return as_floats(image.resize((width, height), Pillow.Resampling.BILINEAR))


def _open(path: Path) -> Pillow.Image:
    with Pillow.open(path) as image:
        return image.convert("RGB")


def as_floats(image: Pillow.Image) -> ImageArray:
    return np.asarray(image, np.float32) / 255
