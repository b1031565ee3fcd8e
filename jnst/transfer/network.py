"""Style networks: one pass through a convolutional network in place of an optimisation.

A network is trained for its styles once (`jnst train style`), and then repaints any image. All styles share the
convolutions; each has its own scale γ_s and shift β_s after every instance normalisation:

    y = γ (x - mean(x)) / sqrt(var(x) + ε) + β,    γ = Σ_s w_s γ_s / Σ_s w_s,    β likewise

with mean and variance of each channel over the positions of one image. A mixture of styles is a mixture of these.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jnst.backbones.ops import convolve
from jnst.errors import ArgumentError, ImageError, hint
from jnst.images.check import ImageInput, check_images
from jnst.types import Array, Image, Params, RandomKey, sum_dtype
from jnst.weights.convert import flatten

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
LONGEST_NAME = 100
"""Characters of a style's name, at most."""


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
        styles: The names of the styles, each of 1 to 100 printable characters.
        widths: Filters at full, half and quarter size.
        blocks: The number of residual blocks.

    Raises:
        ArgumentError: No style, two of one name, or a name or a size that cannot be.

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
        for field in ("styles", "widths"):
            values = getattr(self, field)
            if isinstance(values, str) or not isinstance(values, Sequence):
                raise ArgumentError(f"`{field}` is {values!r:.60}: expected a list")
            object.__setattr__(self, field, tuple(values))
        self._check_names()
        if len(self.widths) != 3 or not all(_is_count(width, 1, MOST_FILTERS) for width in self.widths):
            raise ArgumentError(f"widths {self.widths}: expected three numbers of filters from 1 to {MOST_FILTERS}")
        if not _is_count(self.blocks, 0, MOST_BLOCKS):
            raise ArgumentError(f"{self.blocks!r} residual blocks: expected a number from 0 to {MOST_BLOCKS}")
        # Python's integers, which JSON can hold.
        object.__setattr__(self, "widths", tuple(map(int, self.widths)))
        object.__setattr__(self, "blocks", int(self.blocks))

    def _check_names(self) -> None:
        if not 1 <= len(self.styles) <= MOST_STYLES:
            raise ArgumentError(f"{len(self.styles)} styles: expected one or more, up to {MOST_STYLES}")
        for number, style in enumerate(self.styles):
            if not (isinstance(style, str) and 1 <= len(style) <= LONGEST_NAME and style.isprintable()):
                raise ArgumentError(
                    f"style {style!r:.60}: expected a name of 1 to {LONGEST_NAME} printable characters; choose another"
                )
            if style in self.styles[:number]:
                raise ArgumentError(f"two styles are called {style}: expected each name only once")

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
            image: ``(..., h, w, 3)``, sRGB in [0, 1], of any size from 20x20 pixels. Inside `jax.jit` only shape and
                dtype are checked.
            style_weights: ``(S,)`` or ``(..., S)``: how much each style counts, at least 0; only proportions matter.
                None: the only style. Inside `jax.jit` only the shape is checked.

        Returns:
            Images of the same shape, float32 sRGB in [0, 1].

        Raises:
            ArgumentError: The parameters of another network; not as many weights as styles; or weights that are
                negative, not finite, or all 0.
            ImageError: Not an image in [0, 1], or fewer than 20 pixels on a side.
        """
        self._check_params(params)
        image = _checked_image(image)
        batch, (height, width, _) = image.shape[:-3], image.shape[-3:]
        mixture = self._mixture(style_weights, batch)
        x = _reflected(image.reshape(-1, height, width, 3))

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
        weights: dict[int, float] = {}
        for style, share in shares.items() if isinstance(shares, Mapping) else [(shares, 1.0)]:
            place = self._place(style)
            if place in weights:
                raise ArgumentError(f"style {self.styles[place]} is named twice: name each style once")
            try:
                weights[place] = float(share)
            except (TypeError, ValueError):
                raise ArgumentError(
                    f"style {style}: {share!r} is not a number: expected its share, at least 0"
                ) from None
        values = _checked_weights(np.array([weights.get(place, 0.0) for place in range(len(self.styles))], np.float64))
        values = values / values.max()  # whose sum does not overflow
        return np.asarray(values / values.sum(), np.float32)

    def _place(self, style: str | int) -> int:
        """The place of a style that is given by name, or by number from 1, also in digits."""
        text = str(style)
        for name in (text, text.strip()):
            if isinstance(style, str) and name in self.styles:
                return self.styles.index(name)
        numbers = [str(number) for number in range(1, len(self.styles) + 1)]
        digits = text.strip().lstrip("0")
        if isinstance(style, str | Integral) and digits in numbers:
            return numbers.index(digits)
        if isinstance(style, str) and not text.strip().isdecimal():
            raise ArgumentError(f"this network has no style {style!r}: {hint(style, self.styles)}")
        raise ArgumentError(
            f"style {text.strip():.60}: expected a number from 1 to {len(self.styles)} ({', '.join(self.styles)})"
        )

    def _check_params(self, params: Params) -> None:
        expected = flatten(self.shapes)
        found = {name: np.shape(leaf) for name, leaf in flatten(params).items()} if isinstance(params, Mapping) else {}
        faults = [f"`{name}` is missing" for name in expected if name not in found]
        faults += [f"`{name}` is unknown" for name in found if name not in expected]
        faults = faults or [
            f"`{name}` has shape {found[name]}, expected {shape}"
            for name, shape in expected.items()
            if found[name] != shape
        ]
        if faults:
            raise ArgumentError(
                f"`params` do not belong to this network: {faults[0]}; pass those that were loaded with it"
            )

    def _mixture(self, style_weights: Any, batch: tuple[int, ...]) -> Array:
        """``(n, S)`` or ``(1, S)``, with sums of 1."""
        count = len(self.styles)
        if style_weights is None:
            if count > 1:
                raise ArgumentError(
                    f"this network has {count} styles ({', '.join(self.styles)}): give each a number in `style_weights`"
                )
            style_weights = np.ones(1, np.float32)
        if isinstance(style_weights, str | Mapping):
            raise ArgumentError(
                f"`style_weights` is {style_weights!r:.60}: expected {count} numbers: use network.style_weights"
            )
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


def _is_count(value: Any, least: int, most: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) <= most


def _checked_image(image: ImageInput) -> Image:
    checked = check_images(image, "image")
    height, width = checked.shape[-3:-1]
    # An exported program has symbols here, with constraints of their own.
    if any(isinstance(side, int) and side < SMALLEST_SIDE for side in (height, width)):
        raise ImageError(
            f"`image` is {width}x{height} pixels, but style networks need at least {SMALLEST_SIDE}x{SMALLEST_SIDE}: "
            "enlarge it"
        )
    return checked


def _checked_weights(weights: Any) -> Any:
    if not isinstance(weights, Tracer):
        values = np.asarray(weights, np.float64)
        if not (np.isfinite(values).all() and (values >= 0).all() and (values.max(-1) > 0).all()):
            raise ArgumentError(
                f"style weights {np.array2string(values, separator=', ', threshold=20)}: expected finite numbers of at "
                "least 0, and one above 0"
            )
    return weights
