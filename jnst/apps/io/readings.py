"""Transitional: import from `jnst.apps.io.sizes`, with its names."""

from jnst.apps.io.sizes import LoadOptions as Reading
from jnst.apps.io.sizes import load_options as reading
from jnst.apps.io.sizes import load_with as read
from jnst.apps.io.sizes import loaded_shape as read_shape
from jnst.apps.io.sizes import result_size

__all__ = ["Reading", "read", "read_shape", "reading", "result_size"]
