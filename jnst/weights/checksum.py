"""The checksum in jnst's own weights files."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np

KEY = "sha256"
"""The checksum's key in the metadata."""


def checksum(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """Compute the sha256 of tensors and metadata, in hexadecimal digits.

    The hash covers a JSON array without spaces and then the bytes of the tensors. The array contains the metadata
    without `KEY` and the name, data type and shape of each tensor, both sorted by name. The bytes are little-endian and
    in the same order.

    Args:
        arrays: The tensors as stored.
        metadata: The file's metadata.
    """
    remarks = sorted((key, text) for key, text in metadata.items() if key != KEY)
    tensors = [(name, array.dtype.name, array.shape) for name, array in sorted(arrays.items())]
    digest = hashlib.sha256(json.dumps([remarks, tensors], separators=(",", ":")).encode())
    for _, array in sorted(arrays.items()):
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
