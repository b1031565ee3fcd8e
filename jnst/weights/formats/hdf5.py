"""HDF5: Keras weights (``layer_names``, ``weight_names``) and plain trees of datasets (flaxmodels)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jnst.errors import WeightsError
from jnst.weights.formats.tensors import Keep, Tensors, check_size, keep_all

if TYPE_CHECKING:
    import h5py

FILTERS: dict[int, str] = {1: "deflate", 2: "shuffle", 3: "fletcher32", 4: "szip", 6: "scaleoffset", 32000: "lzf"}
"""The filters that come with h5py; any other would load a plug-in."""


def read_hdf5(path: Path, keep: Keep = keep_all) -> Tensors:
    """Read the weights of an HDF5 file.

    In a Keras file the two weights of a layer, whatever they are called, become ``layer/kernel`` and ``layer/bias``,
    as TensorFlow.js names them; other weights keep their name behind ``layer/``. In any other file a tensor's
    name is its path.

    Args:
        path: The file. It may hold hard links only: no soft or external links, virtual datasets or external storage.
        keep: Which tensors are read.

    Returns:
        The tensors.

    Raises:
        WeightsError: Such links or storage, a filter that needs a plug-in, values that are not numbers, more
            bytes declared than `check_size` allows.

    References:
        The layer groups of Keras 1 and 2: ``keras/legacy/saving/legacy_h5_format.py``.
    """
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        datasets = _datasets(path, file)
        check_size(path, sum(dataset.nbytes for dataset in datasets.values()))
        names = _names(file, datasets)
        kept = keep(names, {})
        arrays = {name: np.asarray(datasets[stored][()]) for name, stored in names.items() if name in kept}
    return Tensors(arrays, {}, "hdf5", str(path))


def _datasets(path: Path, file: "h5py.File") -> dict[str, "h5py.Dataset"]:
    import h5py

    datasets: dict[str, h5py.Dataset] = {}
    seen: set[Any] = {file["/"]}
    groups: list[tuple[str, Any]] = [("", file["/"])]
    while groups:
        prefix, group = groups.pop()
        for key in group:
            name = f"{prefix}{key}"
            link = group.get(key, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise _refusal(path, name, f"a link ({type(link).__name__})")
            item = group[key]
            if isinstance(item, h5py.Dataset):
                _check_dataset(path, name, item)
                datasets[name] = item
            elif item in seen or not isinstance(item, h5py.Group):
                raise _refusal(path, name, "a group inside itself, or neither group nor dataset")
            else:
                seen.add(item)
                groups.append((f"{name}/", item))
    return datasets


def _check_dataset(path: Path, name: str, dataset: "h5py.Dataset") -> None:
    if dataset.is_virtual:
        raise _refusal(path, name, "a virtual dataset")
    properties: Any = dataset.id.get_create_plist()
    if properties.get_external_count():
        raise _refusal(path, name, "a dataset kept in another file")
    if dataset.shape is None or dataset.dtype.kind not in "fiub":
        raise _refusal(path, name, f"a dataset of {dataset.dtype}, not of numbers")
    filters = [int(properties.get_filter(index)[0]) for index in range(properties.get_nfilters())]
    if not set(filters) <= set(FILTERS):
        raise _refusal(path, name, f"a dataset with filters {filters} beyond {', '.join(FILTERS.values())}")


def _refusal(path: Path, name: str, what: str) -> WeightsError:
    return WeightsError(
        f"{path}: `{name}` is {what}, expected plain datasets of numbers in plain groups: "
        "do not trust this file, get it from its publisher"
    )


def _names(file: "h5py.File", datasets: dict[str, "h5py.Dataset"]) -> dict[str, str]:
    """From each tensor's name to the path of its dataset."""
    prefix = "model_weights/" if "model_weights" in file else ""
    root: Any = file[prefix or "/"]
    if "layer_names" not in root.attrs:
        return {name: name for name in datasets}
    names: dict[str, str] = {}
    for layer in map(_text, root.attrs["layer_names"]):
        weights = [_text(weight) for weight in root[layer].attrs["weight_names"]]
        stored = [f"{prefix}{layer}/{weight}" for weight in weights]
        if [datasets[name].ndim > 1 for name in stored] == [True, False]:
            weights = ["kernel", "bias"]
        names |= {f"{layer}/{weight}": name for weight, name in zip(weights, stored, strict=True)}
    return names


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
