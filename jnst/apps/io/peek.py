"""Transitional: import from `jnst.apps.io` and `jnst.apps.io.load`."""

from jnst.apps.io.load import SUFFIXES, find_images, image_size

__all__ = ["SUFFIXES", "find_images", "image_size"]
