"""Images in and out of files.

Inside jnst an image is float32 sRGB in [0, 1], `(h, w, 3)`; what a file holds becomes that, or an `ImageError`.
"""

from jnst.apps.io.load import load_image
from jnst.apps.io.save import check_output, save_image

__all__ = ["check_output", "load_image", "save_image"]
