"""Style networks: one pass through a convolutional network in place of an optimisation.

A network is trained for its styles once (`jnst train style`), and then repaints any image. All styles share the
convolutions; each has its own scale γ_s and shift β_s after every instance normalisation:

    y = γ (x - mean(x)) / sqrt(var(x) + ε) + β,    γ = Σ_s w_s γ_s / Σ_s w_s,    β likewise

with mean and variance of each channel over the positions of one image. A mixture of styles is a mixture of these.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jnst.backbones.ops import convolve
from jnst.errors import ArgumentError, ImageError, hint
from jnst.images.check import ImageInput
from jnst.types import Array, Image, Params, RandomKey, sum_dtype

EPSILON = 1e-5
"""Added to variances, as by Ulyanov et al."""
STRIDE = 4
"""The residual blocks work at a quarter of the image's height and width."""
MARGIN = 16
"""Images are reflected at their borders by this many pixels, which are cut off the result."""
SMALLEST_SIDE = 20
"""The least height and width of an image in pixels: reflections must fit into it."""
OUTPUT_CHANNELS = 3
MOST_FILTERS, MOST_BLOCKS, MOST_STYLES = 1024, 64, 1000
"""Far more than any network has that fits into memory."""


@dataclasses.dataclass(frozen=True)
class StyleNetwork:
    """A network that repaints images in one or several styles.

    Three convolutions, two of them with stride 2; residual blocks; two convolutions, each after nearest-neighbour
    upsampling, which leaves no checkerboard; one convolution to sRGB, and a sigmoid. All kernels are 3x3. After every
    convolution comes a conditional instance normalisation, so none has a bias. Convolutions pad with zeros, inside a
    reflected margin of the image that is cut off in the end: reflecting before every convolution instead, as Johnson et
    al. do in part, takes twice the time on CPUs.

    It holds no parameters and is hashable, so that it can be a static argument of `jax.jit`.

    Attributes:
        styles: The names of the styles.
        widths: Filters at full, half and quarter size.
        blocks: The number of residual blocks.

    Raises:
        ArgumentError: No style, two of one name, or a size that cannot be.

    References:
        Johnson, Alahi & Fei-Fei, Perceptual Losses for Real-Time Style Transfer and Super-Resolution, ECCV 2016;
        Ulyanov, Vedaldi & Lempitsky, Instance Normalization, 2016; Dumoulin, Shlens & Kudlur, A Learned Representation
        for Artistic Style, ICLR 2017; Odena, Dumoulin & Olah, Deconvolution and Checkerboard Artifacts, Distill 2016.

    Examples:
        >>> import jax, jnst
        >>> network = jnst.StyleNetwork(("night", "wave"), widths=(4, 8, 8), blocks=1)
        >>> params = network.init(jax.random.key(0))
        >>> network.apply(params, jax.numpy.zeros((2, 33, 50, 3)), [0.5, 0.5]).shape
        (2, 33, 50, 3)
    """

    styles: tuple[str, ...]
    widths: tuple[int, int, int] = (16, 32, 64)
    blocks: int = 5

    def __post_init__(self) -> None:
        if not 1 <= len(self.styles) <= MOST_STYLES or len(set(self.styles)) < len(self.styles):
            raise ArgumentError(
                f"styles {', '.join(self.styles) or '(none)'}: expected one or more, each name only once"
            )
        if len(self.widths) != 3 or not all(1 <= width <= MOST_FILTERS for width in self.widths):
            raise ArgumentError(f"widths {self.widths}: expected three numbers of filters from 1 to {MOST_FILTERS}")
        if not 0 <= self.blocks <= MOST_BLOCKS:
            raise ArgumentError(f"{self.blocks} residual blocks: expected a number from 0 to {MOST_BLOCKS}")

    @property
    def shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """The shape of every parameter by layer: ``kernel`` (HWIO), ``scale`` and ``shift`` (one row per style)."""
        fine, middle, coarse = self.widths
        channels = {"down1": (3, fine), "down2": (fine, middle), "down3": (middle, coarse)}
        for number in range(1, self.blocks + 1):
            channels |= {f"block{number}_1": (coarse, coarse), f"block{number}_2": (coarse, coarse)}
        channels |= {"up1": (coarse, middle), "up2": (middle, fine), "output": (fine, OUTPUT_CHANNELS)}
        count = len(self.styles)
        return {
            layer: {"kernel": (3, 3, before, after), "scale": (count, after), "shift": (count, after)}
            for layer, (before, after) in channels.items()
        }

    def init(self, key: RandomKey) -> dict[str, dict[str, Array]]:
        """Draw random float32 parameters: He-normal kernels, and styles that do nothing yet (scale 1, shift 0)."""
        draw, keys = jax.nn.initializers.he_normal(), jax.random.split(key, len(self.shapes))
        return {
            layer: {
                "kernel": draw(layer_key, shapes["kernel"], jnp.float32),
                "scale": jnp.ones(shapes["scale"]),
                "shift": jnp.zeros(shapes["shift"]),
            }
            for layer_key, (layer, shapes) in zip(keys, self.shapes.items(), strict=True)
        }

    def apply(
        self, params: Params, image: ImageInput, style_weights: Array | np.ndarray | Sequence[float] | None = None
    ) -> Image:
        """Repaint images.

        Args:
            params: The network's parameters. The dtype of the kernels is that of the convolutions; statistics are
                float32.
            image: ``(..., h, w, 3)``, sRGB in [0, 1], of any size from 20x20 pixels.
            style_weights: ``(S,)`` or ``(..., S)``: how much each style counts, at least 0; only proportions matter.
                None: the only style.

        Returns:
            Images of the same shape, float32 sRGB in [0, 1].

        Raises:
            ArgumentError: Not as many weights as styles, or weights that are negative, not finite, or all 0.
            ImageError: Not the shape or dtype of an image, or fewer than 20 pixels on a side.
        """
        _check_image(image)
        batch, (height, width, _) = image.shape[:-3], image.shape[-3:]
        mixture = self._mixture(style_weights, batch)
        x = _reflected(jnp.asarray(image).reshape(-1, height, width, 3))

        def normalised(layer: str, x: Array, stride: int = 1) -> Array:
            own = params[layer]
            x = convolve(x, own["kernel"], stride=stride)
            # Not a product of matrices, which GPUs and TPUs round to fewer bits.
            scale, shift = ((mixture[..., None] * own[name]).sum(-2)[:, None, None] for name in ("scale", "shift"))
            return instance_norm(x, scale, shift)

        x = 2 * x - 1
        for layer, stride in (("down1", 1), ("down2", 2), ("down3", 2)):
            x = jax.nn.relu(normalised(layer, x, stride))
        for number in range(1, self.blocks + 1):
            x = x + normalised(f"block{number}_2", jax.nn.relu(normalised(f"block{number}_1", x)))
        for layer in ("up1", "up2"):
            x = jax.nn.relu(normalised(layer, upsample(x)))
        x = jax.nn.sigmoid(normalised("output", x).astype(sum_dtype(x)))
        return x[:, MARGIN : MARGIN + height, MARGIN : MARGIN + width].reshape(*batch, height, width, 3)

    def style_weights(self, shares: Mapping[Any, float] | str | int | None = None) -> np.ndarray:
        """The weights of styles that are given by name or number.

        Args:
            shares: How much each style counts, by name or by number from 1; or a single style. None: the first style.

        Returns:
            ``(S,)``, float32, with a sum of 1.

        Raises:
            ArgumentError: An unknown or repeated style, or weights that are negative, not finite, or all 0.

        Examples:
            >>> import jnst
            >>> jnst.StyleNetwork(("night", "wave")).style_weights({"night": 3, 2: 1}).tolist()
            [0.75, 0.25]
        """
        shares = 1 if shares is None else shares
        shares = shares if isinstance(shares, Mapping) else {shares: 1.0}
        weights = np.zeros(len(self.styles), np.float32)
        for style, share in shares.items():
            place = self._place(style)
            if weights[place]:
                raise ArgumentError(f"style {style} is named twice: name each style once")
            weights[place] = share
        return np.asarray(_checked_weights(weights) / weights.sum(), np.float32)

    def _place(self, style: str | int) -> int:
        if isinstance(style, str) and style in self.styles:
            return self.styles.index(style)
        if isinstance(style, int) and 1 <= style <= len(self.styles):
            return style - 1
        if isinstance(style, str) and not style.isdecimal():
            raise ArgumentError(f"this network has no style {style!r}: {hint(style, self.styles)}")
        raise ArgumentError(f"style {style}: expected a number from 1 to {len(self.styles)} ({', '.join(self.styles)})")

    def _mixture(self, style_weights: Any, batch: tuple[int, ...]) -> Array:
        """``(n, S)`` or ``(1, S)``, with sums of 1."""
        count = len(self.styles)
        if style_weights is None:
            if count > 1:
                raise ArgumentError(
                    f"this network has {count} styles ({', '.join(self.styles)}): give each a number in `style_weights`"
                )
            style_weights = np.ones(1, np.float32)
        # A list may hold tracers.
        weights = style_weights if hasattr(style_weights, "shape") else jnp.asarray(style_weights, jnp.float32)
        if weights.ndim == 0 or weights.shape[-1] != count:
            raise ArgumentError(
                f"`style_weights` has shape {tuple(weights.shape)}, expected ({count},) or (..., {count}): give a "
                f"number for each style ({', '.join(self.styles)})"
            )
        weights = jnp.asarray(_checked_weights(weights), sum_dtype(weights))
        if weights.ndim > 1:
            try:
                weights = jnp.broadcast_to(weights, (*batch, count))
            except ValueError:
                raise ArgumentError(
                    f"`style_weights` has leading axes {weights.shape[:-1]}, the images {batch}, which do not "
                    "broadcast: give one row of weights, or one for each image"
                ) from None
        weights = weights.reshape(-1, count)
        return weights / jnp.sum(weights, -1, keepdims=True)


def instance_norm(x: Array, scale: Array, shift: Array) -> Array:
    """Normalise each channel of each image to mean 0 and variance 1, then scale and shift it.

    Args:
        x: ``(n, h, w, c)``.
        scale: Broadcasts against ``x``.
        shift: Broadcasts against ``x``.

    Returns:
        The shape and dtype of ``x``; mean and variance are summed in float32.

    References:
        Ulyanov, Vedaldi & Lempitsky, Instance Normalization: The Missing Ingredient for Fast Stylization, 2016.
    """
    wide = x.astype(sum_dtype(x))
    centred = wide - jnp.mean(wide, (-3, -2), keepdims=True)
    variance = jnp.mean(centred**2, (-3, -2), keepdims=True)
    return (centred * jax.lax.rsqrt(variance + EPSILON) * scale + shift).astype(x.dtype)


def upsample(x: Array) -> Array:
    """Double height and width of ``(n, h, w, c)`` by repeating every position."""
    count, height, width, channels = x.shape
    twice = jnp.broadcast_to(x[:, :, None, :, None], (count, height, 2, width, 2, channels))
    return twice.reshape(count, 2 * height, 2 * width, channels)


def _reflected(x: Array) -> Array:
    """Continue images by their reflections: a margin on each side, and up to a multiple of `STRIDE`."""
    for axis in (1, 2):
        # Slices instead of `jnp.pad`, which needs numbers where an exported program has symbols.
        size = x.shape[axis]
        after = MARGIN + (-size % STRIDE if isinstance(size, int) else 0)
        head = jax.lax.rev(jax.lax.slice_in_dim(x, 1, 1 + MARGIN, axis=axis), (axis,))
        tail = jax.lax.rev(jax.lax.slice_in_dim(x, size - 1 - after, size - 1, axis=axis), (axis,))
        x = jnp.concatenate([head, x, tail], axis)
    return x


def _check_image(image: ImageInput) -> None:
    shape, dtype = tuple(image.shape), image.dtype
    if len(shape) < 3 or shape[-1] != 3:
        raise ImageError(f"`image` has shape {shape}, expected (..., h, w, 3): load it with jnst.load_image")
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ImageError(f"`image` has dtype {dtype}, expected floats in [0, 1]: divide by 255 or use jnst.load_image")
    if all(isinstance(side, int) for side in shape) and (min(shape[-3:-1]) < SMALLEST_SIDE or math.prod(shape) == 0):
        raise ImageError(
            f"`image` is {shape[-2]}x{shape[-3]} pixels, but style networks need at least "
            f"{SMALLEST_SIDE}x{SMALLEST_SIDE}: enlarge it"
        )


def _checked_weights(weights: Any) -> Any:
    if not isinstance(weights, Tracer):
        values = np.asarray(weights, np.float64)
        if not (np.isfinite(values).all() and (values >= 0).all() and (values.sum(-1) > 0).all()):
            raise ArgumentError(
                f"style weights {np.array2string(values, separator=', ', threshold=20)}: expected finite numbers of at "
                "least 0, and one above 0"
            )
    return weights
