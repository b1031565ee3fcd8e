"""What every measure takes: images of one size, and their features."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnst.backbones import Backbone
from jnst.errors import ImageError
from jnst.images import check_image
from jnst.types import Features, Image, Params

Inputs = Image | np.ndarray
"""What measures take: ``(..., h, w, 3)`` in [0, 1], floating-point, cast to float32."""


def check_images(image: Any, name: str) -> Image:
    """Return ``image`` as a float32 JAX array if it holds images in [0, 1].

    Args:
        image: ``(..., h, w, 3)``, floating-point. Inside `jax.jit` only shape and dtype are checked.
        name: What to call it in messages.

    Raises:
        ImageError: Another shape, an integer dtype, values outside [0, 1], NaN.
    """
    if getattr(image, "ndim", 0) <= 3:
        return check_image(image, name)
    shape = tuple(image.shape)
    if shape[-1] != 3:
        advice = "move the channels last, with jnp.moveaxis(image, -3, -1)" if shape[-3] == 3 else "load RGB images"
        raise ImageError(f"`{name}` has shape {shape}, expected (..., h, w, 3): {advice}")
    return check_image(image.reshape(math.prod(shape[:-2]), *shape[-2:]), name).reshape(shape)


def check_pair(image: Any, other: Any, name: str) -> tuple[Image, Image]:
    """Check two stacks of images that are compared position by position.

    Args:
        image: ``(..., h, w, 3)``, called ``image`` in messages.
        other: ``(..., h, w, 3)``; leading axes broadcast.
        name: What to call ``other``.

    Raises:
        ImageError: As `check_images`, another size, or leading axes that do not broadcast.
    """
    image, other = check_images(image, "image"), check_images(other, name)
    if image.shape[-3:] != other.shape[-3:]:
        raise ImageError(
            f"`image` is {image.shape[-2]}x{image.shape[-3]} pixels, `{name}` {other.shape[-2]}x{other.shape[-3]}, "
            f"expected the same size: resize `{name}`, for example with jnst.resize"
        )
    try:
        jnp.broadcast_shapes(image.shape, other.shape)
    except ValueError:
        raise ImageError(
            f"`image` has leading axes {image.shape[:-3]}, `{name}` {other.shape[:-3]}, which do not broadcast: "
            "pass as many images of each, or one"
        ) from None
    return image, other


def exact_features(
    backbone: Backbone, params: Params, image: Image, layers: Sequence[str], name: str
) -> dict[str, Features]:
    """`Backbone.apply` without the reduced precision (TF32, bfloat16) in which GPUs and TPUs multiply float32 numbers.

    Args:
        backbone: The network.
        params: Its parameters.
        image: ``(..., h, w, 3)``.
        layers: Names out of ``backbone.layers``.
        name: What to call the image in messages.

    Returns:
        ``{layer: (..., h', w', c)}`` in the parameters' dtype.

    Raises:
        ArgumentError: A layer that the architecture does not have.
        WeightsError: A layer beyond those that the weights reach.
        ImageError: An image too small for a layer.
    """
    layers = backbone.check_layers(layers)
    backbone.check_size(image, layers, name)
    with jax.default_matmul_precision("highest"):
        return backbone.apply(params, image, layers)
