"""Which way up an image is: the orientation in its EXIF data, which is read here without trusting the rest of it."""

import io
import re
from collections.abc import Mapping
from typing import Any

from PIL.ExifTags import Base

from jnst.apps.io.tiff import read_directory

ON_ITS_SIDE = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""

_XMP = re.compile(rb"tiff:Orientation(?:=\"|>)([1-8])")


def orientation(info: Mapping[Any, Any]) -> int:
    """The EXIF orientation, 1 to 8, in what Pillow found beside an image; 1 where there is none.

    It is taken from EXIF data, from what ImageMagick writes into a PNG's text, or from XMP, in this order.

    Raises:
        ValueError: The EXIF data is damaged.
    """
    data, text = info.get("exif"), info.get("Raw profile type exif")
    if data is None and isinstance(text, str):
        data = bytes.fromhex("".join(text.split("\n")[3:]))
    if data:
        tags = read_directory(io.BytesIO(re.sub(rb"^(Exif\0\0)+", b"", data)))
        if Base.Orientation in tags.entries:
            found = tags.number(Base.Orientation, 1)
            return found if 1 <= found <= 8 else 1
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    match = _XMP.search(xmp.encode("utf-8", "replace") if isinstance(xmp, str) else xmp)
    return int(match[1]) if match else 1
