"""Names for arrays and trees of arrays, and the conventions that hold everywhere.

* A **image** is float32 sRGB in [0, 1] of shape ``(..., h, w, 3)``. What a network wants instead (BGR,
  0-255, a mean) is the business of its backbone.
* **Features** have shape ``(..., h, w, c)``. A layer ``convB_L`` is taken before its ReLU, ``reluB_L`` after it.
* A loss has **one value per image**: from leading axes ``(...)`` follows a value of shape ``(...)``, never a mean
  over the batch.
* Statistics and losses are accumulated in float32, whatever the features' dtype.
* Numbers are leaves of pytrees, names and callables are static: changing a number never compiles again.
* Randomness comes from a `jax.random.key`, always the first argument.
"""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Float, Key

Image = Float[Array, "*batch h w 3"]
Features = Float[Array, "*batch h w c"]
Guide = Float[Array, "*batch h w"]
Matrix = Float[Array, "*batch c c"]
PerImage = Float[Array, "*batch"]
RandomKey = Key[Array, ""]

Params = Mapping[str, Any]
"""A network's parameters: nested mappings whose leaves are arrays (``params["conv4_2"]["kernel"]``)."""

__all__ = ["Array", "Features", "Guide", "Image", "Matrix", "Params", "PerPicture", "RandomKey"]
