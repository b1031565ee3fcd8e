"""Images as 8-bit RGB and as JPEG, for looking at."""

import io

import numpy as np
from PIL import Image as Pillow

from jnst.types import Image


def to_levels(image: Image | np.ndarray) -> np.ndarray:
    """The 8-bit levels of an image.

    Args:
        image: ``(h, w, 3)`` in [0, 1]. Values outside are clipped, NaN becomes 0.

    Returns:
        ``(h, w, 3)``, uint8.

    >>> to_levels(np.array([[[0.0, 0.5, 2.0]]])).tolist()
    [[[0, 128, 255]]]
    """
    return (np.clip(np.nan_to_num(np.asarray(image)), 0, 1) * 255 + 0.5).astype(np.uint8)


def to_jpeg(image: Pillow.Image, *, max_side: int, quality: int = 90) -> tuple[bytes, tuple[int, int]]:
    """Encode an image as JPEG, reduced if it is large.

    Args:
        image: Any image; it does not change.
        max_side: The longer side in pixels, at most.
        quality: Of the JPEG.

    Returns:
        The file's content, and the width and height.
    """
    if max(image.size) > max_side:
        image = image.copy()
        image.thumbnail((max_side, max_side), Pillow.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue(), image.size
