"""The images of a run: checked, and brought to the sizes at which the run looks at them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnst.errors import ArgumentError
from jnst.images import check_image, check_mask, check_masks, fit_shape, noise, resize, size_of
from jnst.solve.compilation import is_traced
from jnst.types import NO_WRAP, Array, Guide, Image, RandomKey, Wrap


class Inputs(NamedTuple):
    """The images of a run, as described in `jnst.stylize`."""

    content: Image | None
    styles: tuple[Image, ...] = ()
    style_weights: Array | None = None
    masks: tuple[Guide, ...] | None = None
    style_masks: tuple[Guide | None, ...] | None = None

    @property
    def channels(self) -> int:
        """The number of channels of every image: 3 for each map that is made."""
        image = self.styles[0] if self.content is None else self.content
        return image.shape[-1]


INITS: dict[str, Callable[[RandomKey, Inputs, tuple[int, int], float, float], Image]] = {
    "content": lambda key, inputs, shape, std, power: _needed("content", inputs.content),
    "style": lambda key, inputs, shape, std, power: resize(_needed("style", *inputs.styles[:1]), shape),
    "noise": lambda key, inputs, shape, std, power: noise(key, shape, std, power, inputs.channels),
}
"""Initial images by name: functions of a key, the inputs at the first size, that size, and the noise's standard
deviation and power."""


def check_inputs(
    content: Image | None,
    style: Image | Sequence[Image] | None,
    style_weights: Sequence[float] | None = None,
    masks: Sequence[Guide] | None = None,
    style_masks: Sequence[Guide | None] | None = None,
    *,
    several_maps: bool = False,
) -> Inputs:
    """Check the images of a run; arguments and errors as for `jnst.stylize`.

    With ``several_maps``, styles may have more than 3 channels, as for `jnst.synthesize`.
    """
    refuse_tracers((content, style, style_weights, masks, style_masks))
    content = None if content is None else check_image(content, "content")
    styles = () if style is None else _check_styles(style, several_maps)
    return Inputs(
        content,
        styles,
        _check_style_weights(style_weights, len(styles)) if styles else None,
        None if masks is None or content is None else check_masks(masks, size_of(content), "masks", len(styles)),
        None if style_masks is None else _check_style_masks(style_masks, styles),
    )


def refuse_tracers(tree: Any) -> None:
    """Check that nothing is being traced by `jax.jit`, `jax.vmap` or `jax.grad`: runs with callbacks need the host.

    Raises:
        ArgumentError: Something is.
    """
    if is_traced(tree):
        raise ArgumentError(
            "arguments are being traced by jax.jit, vmap or grad, but this function runs on the host: use "
            "jnst.solve.run with jnst.transfer_loss, which can be transformed"
        )


def check_key(key: Any) -> RandomKey:
    """Return a random key, `jax.random.key(0)` in place of None.

    Raises:
        ArgumentError: It is no single key.
    """
    if key is None:
        return jax.random.key(0)
    dtype, ndim = getattr(key, "dtype", np.dtype(object)), getattr(key, "ndim", None)
    if (jnp.issubdtype(dtype, jax.dtypes.prng_key) and ndim == 0) or (dtype == jnp.uint32 and ndim == 1):
        return key
    given = f"{key!r}" if ndim is None else f"of shape {getattr(key, 'shape', ())}"
    raise ArgumentError(f"key {given}: expected a single JAX key, such as jax.random.key(0)")


def resize_inputs(
    inputs: Inputs,
    shape: tuple[int, int],
    style_sides: tuple[float, ...],
    smallest_side: int,
    method: str,
    wrap: Wrap = NO_WRAP,
) -> Inputs:
    """Resize the content image to ``shape`` and every style to its longer side.

    Args:
        inputs: At full resolution. Masks stay as they are, since guides are made from them at any size.
        shape: Height and width.
        style_sides: In pixels; a style whose shorter side is below ``smallest_side`` then is made larger.
        smallest_side: What the network needs.
        method: A key of `jnst.images.METHODS`.
        wrap: Along which axes the content repeats.
    """
    content = None if inputs.content is None else resize(inputs.content, shape, method, wrap)
    styles = tuple(
        resize(style, _fitted(size_of(style), side, smallest_side), method)
        for style, side in zip(inputs.styles, style_sides, strict=True)
    )
    return inputs._replace(content=content, styles=styles)


def _fitted(shape: tuple[int, int], side: float, smallest_side: int) -> tuple[int, int]:
    """A shape with a longer side of ``side``, or with a shorter one of ``smallest_side`` if that is larger."""
    return fit_shape(shape, max(side, max(shape) * smallest_side / min(shape)))


def _needed(name: str, image: Image | None = None) -> Image:
    if image is None:
        others = ", ".join(other for other in INITS if other != name)
        raise ArgumentError(f"init {name!r} without a {name} image: start from one of {others}, or pass an image")
    return image


def _check_styles(style: Any, several_maps: bool) -> tuple[Image, ...]:
    if isinstance(style, list | tuple) and not style:
        raise ArgumentError("`style` is an empty sequence: pass at least one image")
    named = {f"style[{n}]": image for n, image in enumerate(style)} if isinstance(style, list | tuple) else None
    named = named or {"style": style}
    first: Any = np.shape(next(iter(named.values()))) if several_maps else ()
    # Three rows are too few for any network: such an image has its channels first.
    has_maps = len(first) == 3 and first[0] != 3 and first[-1] > 3 and first[-1] % 3 == 0
    channels = first[-1] if has_maps else 3
    return tuple(check_image(image, name, channels) for name, image in named.items())


def _check_style_weights(weights: Sequence[float] | None, count: int) -> Array:
    values = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    if values.shape != (count,) or not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
        raise ArgumentError(
            f"style_weights {weights} for {count} styles: give one number of at least 0 for each, not all of them 0"
        )
    return jnp.asarray(values, jnp.float32)


def _check_style_masks(masks: Sequence[Guide | None], styles: tuple[Image, ...]) -> tuple[Guide | None, ...]:
    if len(masks) != len(styles):
        raise ArgumentError(
            f"{len(masks)} style_masks for {len(styles)} styles: give one for each, or None for the whole"
        )
    return tuple(
        None if mask is None else check_mask(mask, size_of(style), f"style_masks[{index}]")
        for index, (mask, style) in enumerate(zip(masks, styles, strict=True))
    )
