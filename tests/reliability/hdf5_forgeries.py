"""HDF5 files rewritten by h5py itself: sound as HDF5, wrong as weights, or reaching outside."""

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from weights_kinds import Files

OUTSIDE = "decoy.h5"
"""A file beside the forged one, of which nobody may know."""

Change = Callable[[random.Random, h5py.File, str], None]


def poison(rng: random.Random, file: Any, name: str) -> None:
    values = file[name][()]
    values.flat[rng.randrange(values.size)] = rng.choice((np.nan, np.inf, -np.inf))
    file[name][...] = values


def shape(rng: random.Random, file: Any, name: str) -> None:
    values = file[name][()]
    del file[name]
    file[name] = rng.choice((values.ravel(), values[..., None], values[:1], values.T, values[..., :0]))


def kind(rng: random.Random, file: Any, name: str) -> None:
    values = file[name][()]
    del file[name]
    file[name] = rng.choice(
        (
            values.astype(">f8"), values.astype("f2"), values.astype("i4"), values.astype("S4"), "words",
            values.astype([("a", "f4"), ("b", "i4")]), values.astype(complex), h5py.Empty("f4"), file["/"].ref,
            values.astype("b"),
        )
    )  # fmt: skip


def enormous(rng: random.Random, file: Any, name: str) -> None:
    dims = file[name].shape
    del file[name]
    options = rng.choice(({}, {"chunks": (1024,), "compression": "gzip"}, {"chunks": (1 << 28,)}))
    size = rng.choice((1 << 28, 1 << 31, 1 << 40, 1 << 55))
    if rng.random() < 0.3:
        file.create_dataset(name, dims, "f4", chunks=tuple(dims), maxshape=(None,) * len(dims))
        file[name].resize([side << 12 for side in dims])
    else:
        file.create_dataset(name, (size,), "f4", **options)


def link(rng: random.Random, file: Any, name: str) -> None:
    del file[name]
    file[name] = rng.choice(
        (
            h5py.SoftLink("/nowhere"), h5py.SoftLink(f"/{name}"), h5py.ExternalLink(OUTSIDE, "/a"),
            h5py.ExternalLink(f"../outside/{OUTSIDE}", "/a"), h5py.ExternalLink("w.h5", "/"), file["/"],
        )
    )  # fmt: skip


def elsewhere(rng: random.Random, file: Any, name: str) -> None:
    values = file[name]
    dims, size = values.shape, values.size * 4
    del file[name]
    if rng.random() < 0.5:
        file.create_dataset(name, dims, "f4", external=[(rng.choice((OUTSIDE, f"../outside/{OUTSIDE}")), 0, size)])
        return
    layout = h5py.VirtualLayout(dims, "f4")
    layout[...] = h5py.VirtualSource(rng.choice((OUTSIDE, "../outside/" + OUTSIDE)), "a", dims)
    file.create_virtual_dataset(name, layout)


def lose(rng: random.Random, file: Any, name: str) -> None:
    del file[name]


def rename(rng: random.Random, file: Any, name: str) -> None:
    others = [other for other in found(file) if file[other].shape == file[name].shape]
    target = rng.choice((f"{name}x", "x", f"deep/{'a/' * 200}x", rng.choice(others)))
    if target in file:
        first, second = file[name][()], file[target][()]
        file[name][...], file[target][...] = second, first
    else:
        file.move(name, target)


def attributes(rng: random.Random, file: Any, name: str) -> None:
    holder = rng.choice((file, file[name], file[name].parent))
    key = rng.choice(("layer_names", "weight_names", "model_weights"))
    names: list[Any] = [
        [], [b"/"], [b".."], [b"."], [b""], [b"x\xff"], np.zeros((2, 2), "S3"), np.arange(3), "text", 1.5,
        [b"block1_conv1"] * 2, [b"block1_conv1", b"../block1_conv2"], h5py.Empty("S1"), file["/"].ref,
    ]  # fmt: skip
    holder.attrs[key] = rng.choice(names)


CHANGES: tuple[Change, ...] = (
    poison, shape, kind, enormous, link, elsewhere, lose, rename, attributes, attributes,
)  # fmt: skip


def found(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


def forge_hdf5(rng: random.Random, files: Files) -> Files:
    ((name, data),) = files.items()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        with h5py.File(path, "r+") as file:
            rng.choice(CHANGES)(rng, file, rng.choice(found(file)))
        return {name: path.read_bytes()}
