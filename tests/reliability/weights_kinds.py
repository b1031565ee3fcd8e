"""Small weights in every format that can be read: a table with a row for each kind of file."""

import dataclasses
import io
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import ml_dtypes
import numpy as np

TESTS = Path(__file__).resolve().parents[1]
sys.path.append(str(TESTS / "weights"))

import published_names as names  # noqa: E402  # pyright: ignore[reportMissingImports]
import writers  # noqa: E402  # pyright: ignore[reportMissingImports]
from published import kernels  # noqa: E402

from jnst.apps.checkpoint import load_state, save_state  # noqa: E402
from jnst.backbones import IMAGENET, param_shapes  # noqa: E402
from jnst.errors import JnstError, WeightsError  # noqa: E402
from jnst.weights import Weights, save_weights  # noqa: E402
from jnst.weights.convert import flatten  # noqa: E402
from jnst.weights.load import load_backbone  # noqa: E402

Arrays = dict[str, np.ndarray]
Files = dict[str, bytes]


class Read(NamedTuple):
    """What a file was read as: the metadata and the numbers."""

    about: Any
    arrays: Arrays


@dataclasses.dataclass(frozen=True)
class Kind:
    """A row of `KINDS`.

    Attributes:
        make: Writes the files into a folder.
        main: The name of the file that is read.
        container: The kind of forgery, a key of `weights_forgeries.FORGERIES`.
        checked: Whether the format has checksums, so that changed numbers must be refused.
        read: The reader under test.
        refusal: The exception that the reader raises.
    """

    make: Callable[[Path], Any]
    main: str
    container: str
    checked: bool = False
    read: Callable[[Path], Read] = lambda path: read_network(path, "vgg19")
    refusal: type[JnstError] = WeightsError

    def files(self) -> Files:
        with tempfile.TemporaryDirectory() as folder:
            self.make(Path(folder))
            return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def read_network(path: Path, architecture: str | None = None) -> Read:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).* matches no network jnst knows")
        backbone, params = load_backbone(architecture, path)
    return Read(backbone, {name: np.asarray(leaf) for name, leaf in flatten(params).items()})


def keras() -> Arrays:
    return {name.replace("conv1_", "block1_conv"): array for name, array in kernels().items()}


def torch() -> Arrays:
    """The arrays as torchvision names and transposes them."""
    flat = {flat: torch_name for torch_name, flat in names.torch_vgg("vgg19").items()}
    return {
        flat[name]: np.ascontiguousarray(array.transpose(3, 2, 0, 1)) if array.ndim == 4 else array
        for name, array in kernels().items()
    }


def halves(dtype: Any) -> Arrays:
    return {name: array.astype(dtype) for name, array in torch().items()}


def write_native(folder: Path) -> None:
    widths = "8/12/16"
    generator = np.random.default_rng(2)
    shapes = param_shapes("convnet", widths)
    params = {name: generator.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    weights = Weights("convnet", params, IMAGENET, "here", "made here", "MIT", {"widths": widths, "padding": "reflect"})
    save_weights(folder / "w.safetensors", weights)


def write_hdf5_with_checksums(folder: Path) -> None:
    """Write HDF5's later layout, which has checksums, with the names of flaxmodels."""
    with h5py.File(folder / "w.h5", "w", libver="latest") as file:
        for name, array in kernels().items():
            stored = name.replace("kernel", "weight")
            file.create_dataset(stored, data=array, compression="gzip", shuffle=True, fletcher32=True)


def write_tree(folder: Path) -> None:
    """Write HDF5's first layout, which has no checksums."""
    writers.write_hdf5(folder / "w.h5", {name.replace("kernel", "weight"): array for name, array in kernels().items()})


def write_compressed_npz(folder: Path) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, **kernels_as_flaxmodels())  # pyright: ignore[reportArgumentType]
    (folder / "w.npz").write_bytes(content.getvalue())


def kernels_as_flaxmodels() -> Arrays:
    return {name.replace("kernel", "weight"): array for name, array in kernels().items()}


def write_quantized_tfjs(folder: Path) -> None:
    """Write kernels with 8 bits and biases with 16 bits, in a group for each layer."""
    import json

    groups = []
    for layer in ("block1_conv1", "block1_conv2"):
        data, weights = b"", []
        for leaf, dtype in (("kernel", "uint8"), ("bias", "uint16")):
            array = keras()[f"{layer}/{leaf}"]
            scale = float(np.ptp(array)) / np.iinfo(dtype).max
            levels = np.round((array - array.min()) / scale).astype(dtype)
            quantization = {"dtype": dtype, "scale": scale, "min": float(array.min())}
            entry = {"name": f"{layer}/{leaf}", "shape": list(array.shape), "dtype": "float32"}
            weights.append({**entry, "quantization": quantization})
            data += levels.tobytes()
        (folder / f"{layer}.bin").write_bytes(data)
        groups.append({"paths": [f"{layer}.bin"], "weights": weights})
    (folder / "model.json").write_text(json.dumps({"weightsManifest": groups}))


def write_state(folder: Path) -> None:
    """Write a checkpoint of a run."""
    save_state(folder / "run.ckpt", {"image": kernels()["conv1_1/kernel"], "step": np.int32(7)}, about={"size": 64})


def read_state(path: Path) -> Read:
    state = load_state(path)
    return Read(state.about, {name: np.asarray(leaf) for name, leaf in state.leaves.items()})


KINDS: Mapping[str, Kind] = {
    "checkpoint": Kind(write_state, "run.ckpt", "safetensors", True, read_state, JnstError),
    "jnst": Kind(write_native, "w.safetensors", "safetensors", checked=True, read=read_network),
    "safetensors": Kind(
        lambda folder: writers.write_safetensors(folder / "w.safetensors", torch(), {"format": "pt"}),
        "w.safetensors",
        "safetensors",
    ),
    "safetensors, bfloat16": Kind(
        lambda folder: writers.write_safetensors(folder / "w.safetensors", halves(ml_dtypes.bfloat16)),
        "w.safetensors",
        "safetensors",
    ),
    "Keras HDF5": Kind(lambda folder: writers.write_keras(folder / "w.h5", keras()), "w.h5", "hdf5"),
    "HDF5": Kind(write_tree, "w.h5", "hdf5"),
    "HDF5 with checksums": Kind(write_hdf5_with_checksums, "w.h5", "hdf5", checked=True),
    "npz": Kind(lambda folder: writers.write_npz(folder / "w.npz", kernels_as_flaxmodels()), "w.npz", "npz", True),
    "compressed npz": Kind(write_compressed_npz, "w.npz", "npz", checked=True),
    "PyTorch": Kind(
        lambda folder: writers.write_torch_zip(folder / "w.pth", torch()), "w.pth", "torch-zip", checked=True
    ),
    "older PyTorch": Kind(
        lambda folder: writers.write_torch_legacy(folder / "w.pth", halves(np.float16)), "w.pth", "torch-legacy"
    ),
    "pickled arrays": Kind(lambda folder: writers.write_pickle(folder / "w.ckpt", keras()), "w.ckpt", "pickle"),
    "TensorFlow.js": Kind(lambda folder: writers.write_tfjs(folder / "model.json", keras()), "model.json", "tfjs"),
    "quantised TensorFlow.js": Kind(write_quantized_tfjs, "model.json", "tfjs"),
}
"""The kinds of files that are damaged and forged."""
