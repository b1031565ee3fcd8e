"""safetensors, as timm and the Hugging Face hub publish them and as `jnst.weights.save_weights` writes them."""

from pathlib import Path

import numpy as np

from jnst.weights.formats.tensors import Keep, Tensors, check_size, keep_all


def read_safetensors(path: Path, keep: Keep = keep_all) -> Tensors:
    """Read a safetensors file; bfloat16 becomes float32.

    Args:
        path: The file.
        keep: Which tensors to read.

    Returns:
        The tensors and the file's ``__metadata__``.

    Raises:
        WeightsError: The file is larger than `check_size` allows.

    References:
        https://github.com/huggingface/safetensors#format. The library checks that offsets do not overlap and stay
        inside the file.
    """
    from safetensors import safe_open

    check_size(path, path.stat().st_size)
    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata() or {})
        names = list(file.keys())
        kept = keep(names, metadata)
        arrays = {name: _plain(file.get_tensor(name)) for name in names if name in kept}
    return Tensors(arrays, metadata, "safetensors", str(path))


def _plain(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
