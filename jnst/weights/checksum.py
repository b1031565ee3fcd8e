"""The checksum in jnst's own files of weights."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np

KEY = "sha256"
"""Where it stands in the metadata."""


def checksum(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """The sha256 of tensors and metadata, in hexadecimal digits.

    It is taken of a JSON array of the metadata, without `KEY`, and of each tensor's name, data type and shape, both
    sorted by name, without spaces; then of the tensors' bytes, little-endian and in the same order.

    Args:
        arrays: The tensors as they are stored.
        metadata: The file's metadata.
    """
    remarks = sorted((key, text) for key, text in metadata.items() if key != KEY)
    tensors = [(name, array.dtype.name, array.shape) for name, array in sorted(arrays.items())]
    digest = hashlib.sha256(json.dumps([remarks, tensors], separators=(",", ":")).encode())
    for _, array in sorted(arrays.items()):
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
