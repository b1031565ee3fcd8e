"""Types of arrays, and the conventions that hold everywhere.

* An **image** is float32 sRGB in [0, 1] of shape ``(..., h, w, 3)``. What a network wants instead (BGR, 0-255, a mean)
  is the business of its backbone.
* **Features** have shape ``(..., h, w, c)``. Layer ``convB_L`` is taken before its ReLU, ``reluB_L`` after it.
* A loss has **one value per image**: images of shape ``(..., h, w, 3)`` have losses of shape ``(...)``, never a mean
  over the batch.
* Statistics and losses accumulate in float32 whatever the features' dtype (in float64 for float64 features).
* Whatever holds numbers is a pytree; whatever holds names or callables is static and hashable. Changing a number never
  compiles again.
* Arguments come in one order: images, objective, targets, params. Random keys are passed as ``key=``. Only
  `jnst.Backbone` follows Flax, whose modules take the parameters first.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Image = Float[Array, "*batch h w 3"]
Features = Float[Array, "*batch h w c"]
Guide = Float[Array, "*batch h w"]
Matrix = Float[Array, "*batch c c"]
PerImage = Float[Array, "*batch"]
RandomKey = Key[Array, ""]

Params = Mapping[str, Any]
"""A network's parameters: nested mappings whose leaves are arrays (``params["conv4_2"]["kernel"]``)."""

Wrap = tuple[bool, bool]
"""Whether an image repeats downwards, so that its last row is followed by the first, and whether it repeats to the
right."""

NO_WRAP: Wrap = (False, False)
"""An image that ends at its border."""

__all__ = [
    "NO_WRAP",
    "Array",
    "Features",
    "Guide",
    "Image",
    "Matrix",
    "Params",
    "PerImage",
    "RandomKey",
    "Wrap",
    "of_rank",
    "sum_dtype",
]


def sum_dtype(*arrays: Array) -> Any:
    """The dtype in which statistics and losses are summed: float32, or float64 if an array is float64."""
    with jax.numpy_dtype_promotion("standard"):  # it may be set to "strict", and nothing is promoted here
        return jnp.promote_types(jnp.result_type(*arrays), jnp.float32)


def of_rank(array: Array, ndim: int) -> Array:
    """``array`` with axes of length 1 in front, ``ndim`` in all: what broadcasting does, where JAX may forbid it."""
    return jnp.expand_dims(array, tuple(range(ndim - array.ndim)))
