"""HDF5: Keras weights (``layer_names``, ``weight_names``) and plain trees of datasets (flaxmodels)."""

import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jnst.errors import WeightsError
from jnst.weights.formats.tensors import Keep, Tensors, check_size, keep_all

if TYPE_CHECKING:
    import h5py

FILTERS: dict[int, str] = {1: "deflate", 2: "shuffle", 3: "fletcher32", 4: "szip", 6: "scaleoffset", 32000: "lzf"}
"""The filters that are part of h5py. Any other would load a plugin."""


def read_hdf5(path: Path, keep: Keep = keep_all) -> Tensors:
    """Read the weights of an HDF5 file.

    In a Keras file, the two weights of a layer are named ``layer/kernel`` and ``layer/bias`` as in TensorFlow.js,
    whatever their names in the file. Other weights keep their names after ``layer/``. In all other files, the name of a
    tensor is its path.

    Args:
        path: The file. It may only contain hard links: no soft or external links, virtual datasets or external storage.
        keep: Which tensors to read.

    Returns:
        The tensors.

    Raises:
        WeightsError: The file contains such links or storage, uses a filter that needs a plugin, contains values that
            are not numbers, declares more bytes than `check_size` allows, or has a damaged heap.

    References:
        The layer groups of Keras 1 and 2: ``keras/legacy/saving/legacy_h5_format.py``.
    """
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        datasets = _datasets(path, file)
        check_size(path, sum(dataset.nbytes for dataset in datasets.values()))
        names = _names(path, file, datasets)
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
                raise _refusal(path, name, "a group inside itself, or neither a group nor a dataset")
            else:
                seen.add(item)
                groups.append((f"{name}/", item))
    return datasets


def _check_dataset(path: Path, name: str, dataset: "h5py.Dataset") -> None:
    if dataset.is_virtual:
        raise _refusal(path, name, "a virtual dataset")
    properties: Any = dataset.id.get_create_plist()
    if properties.get_external_count():
        raise _refusal(path, name, "a dataset stored in another file")
    if dataset.shape is None or dataset.dtype.kind not in "fiub":
        raise _refusal(path, name, f"a dataset of {dataset.dtype}, not of numbers")
    filters = [int(properties.get_filter(index)[0]) for index in range(properties.get_nfilters())]
    if not set(filters) <= set(FILTERS):
        raise _refusal(
            path, name, f"a dataset with filters {filters}, where only {', '.join(FILTERS.values())} are allowed"
        )


def _refusal(path: Path, name: str, what: str) -> WeightsError:
    return WeightsError(
        f"{path}: `{name}` is {what}, expected plain datasets of numbers in plain groups: "
        "do not trust this file, get it from its publisher"
    )


def _names(path: Path, file: "h5py.File", datasets: dict[str, "h5py.Dataset"]) -> dict[str, str]:
    """Return the path of each tensor's dataset by the tensor's name."""
    prefix = "model_weights/" if "model_weights" in file else ""
    root: Any = file[prefix or "/"]
    if "layer_names" not in root.attrs:
        return {name: name for name in datasets}
    _check_heaps(path)
    names: dict[str, str] = {}
    for layer in map(_text, root.attrs["layer_names"]):
        weights = [_text(weight) for weight in root[layer].attrs["weight_names"]]
        stored = [f"{prefix}{layer}/{weight}" for weight in weights]
        if [datasets[name].ndim > 1 for name in stored] == [True, False]:
            weights = ["kernel", "bias"]
        names |= {f"{layer}/{weight}": name for weight, name in zip(weights, stored, strict=True)}
    return names


def _check_heaps(path: Path) -> None:
    """Check the global heaps, which store strings: HDF5 2.0 loops forever over a heap whose free space is empty.

    References:
        III.E of https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        sizes = data[13:15] if data[8] < 2 else data[9:11]
        sound = sizes == b"\x08\x08"
        begin = data.find(b"GCOL")
        while sound and begin >= 0:
            place, end = begin + 16, min(len(data), begin + int.from_bytes(data[begin + 8 : begin + 16], "little"))
            while sound and place + 16 <= end:
                index, size = (
                    int.from_bytes(data[place + at : place + at + n], "little") for at, n in ((0, 2), (8, 8))
                )
                step = 16 + size + -size % 8 if index else size
                sound = 0 < step <= end - place
                place += step
            begin = data.find(b"GCOL", begin + 4)
    if not sound:
        raise WeightsError(f"{path}: has an invalid heap: it is damaged, get it again")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
