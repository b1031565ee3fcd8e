"""Read and write image files.

`load_image` returns float32 sRGB in [0, 1], `(h, w, 3)`, whatever the file contains, or raises an `ImageError`.
"""

from jnst.apps.io.load import find_images, image_size, is_grey, load_alpha, load_image
from jnst.apps.io.save import check_output, encode_image, save_image

__all__ = [
    "check_output",
    "encode_image",
    "find_images",
    "image_size",
    "is_grey",
    "load_alpha",
    "load_image",
    "save_image",
]
