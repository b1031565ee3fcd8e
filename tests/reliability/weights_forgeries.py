"""Forged files: the formats are taken apart, changed where it matters, and put together again."""

import copy
import io
import itertools
import json
import pickle
import pickletools
import random
import re
import struct
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import writers  # pyright: ignore[reportMissingImports]
from weights_kinds import Files

Forgery = Callable[[random.Random, Files], Files]

ODD_VALUES: tuple[Any, ...] = (
    -1, 0, 1, 2, 63, 65, 1.5, 1e400, float("nan"), 2**31, 2**40, 2**63, 2**64, -(2**63), None, True, "", "64", [], {},
    [[]], "F32", "../x", "a\0b", "\ud800", "x" * 5000, "a\nb",
)  # fmt: skip


def poisoned(rng: random.Random, data: bytes) -> bytes:
    """Replace one of the last numbers, which belong to a tensor in every format here, by one that is not finite."""
    at = max(0, len(data) - 4 * rng.randrange(1, 500)) & ~3
    return (
        data[:at] + struct.pack("<f", rng.choice((float("nan"), float("inf"), 3e38)))[: len(data) - at] + data[at + 4 :]
    )


def change_json(rng: random.Random, value: Any) -> Any:
    """Change, delete, double or rename something inside a JSON value."""
    value = copy.deepcopy(value)
    holders = [value] if isinstance(value, dict | list) else []
    for holder in holders:
        inner = holder.values() if isinstance(holder, dict) else holder
        holders += [one for one in inner if isinstance(one, dict | list) and one]
    holder = rng.choice([one for one in holders if one] or [{}])
    if isinstance(holder, dict) and holder:
        key = rng.choice(list(holder))
        other = rng.choice(list(holder))
        what = rng.randrange(4)
        if what == 0:
            del holder[key]
        elif what == 1:
            holder[key], holder[other] = holder[other], holder[key]
        elif what == 2:
            holder[rng.choice(("", "x", key + "x", "__metadata__", "features.0.weight"))] = holder.pop(key)
        else:
            holder[key] = rng.choice(ODD_VALUES)
    elif isinstance(holder, list) and holder:
        place = rng.randrange(len(holder))
        if rng.random() < 0.3:
            holder.insert(place, copy.deepcopy(holder[place]))
        elif rng.random() < 0.3:
            del holder[place]
        else:
            holder[place] = rng.choice(ODD_VALUES)
    return value


def json_bytes(rng: random.Random, value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=rng.random() < 0.8)
    if rng.random() < 0.1:
        # json.dumps cannot write the same key twice.
        text = re.sub(r'("[\w.]+"): ([\[{"0-9])', r"\1: null, \1: \2", text, count=1)
    if rng.random() < 0.05:
        text = rng.choice(("[" * 20_000, '{"a":' * 20_000, text * 2, "1" * 5000))
    return text.encode("utf-8", "surrogatepass")


def forge_safetensors(rng: random.Random, files: Files) -> Files:
    ((name, data),) = files.items()
    (length,) = struct.unpack("<Q", data[:8])
    header, payload = data[8 : 8 + length], data[8 + length :]
    if rng.random() < 0.15:
        payload = poisoned(rng, payload)
    else:
        header = json_bytes(rng, change_json(rng, json.loads(header)))
    length = len(header)
    if rng.random() < 0.1:
        length = rng.choice((0, 1, length - 1, length + 1, 2**32, 100 << 30, 2**63 - 1, 2**63, 2**64 - 1))
    return {name: struct.pack("<Q", length) + header + payload}


def forge_tfjs(rng: random.Random, files: Files) -> Files:
    files = dict(files)
    if rng.random() < 0.2:
        shard = rng.choice([name for name in files if name != "model.json"])
        if rng.random() < 0.3:
            del files[shard]
        else:
            files[shard] = poisoned(rng, files[shard])
        return files
    return files | {"model.json": json_bytes(rng, change_json(rng, json.loads(files["model.json"])))}


def forge_npz(rng: random.Random, files: Files) -> Files:
    ((name, data),) = files.items()
    members = read_members(data)
    key = rng.choice(list(members))
    what = rng.randrange(6)
    if what == 0:
        members[key] = poisoned(rng, members[key])
    elif what == 1:
        members[key] = change_npy_header(rng, members[key])
    elif what == 2:
        members[rng.choice(("../x.npy", "/etc/x.npy", "x.npy", "a/../b.npy", "\0.npy"))] = members.pop(key)
    elif what == 3:
        content = io.BytesIO()
        objects = np.array([{"an": "object"}, None], dtype=object)
        np.save(content, rng.choice([objects, np.zeros(3, "U4"), np.zeros(3, "f4,i4"), np.zeros(3, "M8[s]")]))
        members[key] = content.getvalue()
    elif what == 4:
        return {name: lying_directory(rng, data)}
    return {name: write_members(rng, members)}


def change_npy_header(rng: random.Random, member: bytes) -> bytes:
    """Change the shape, data type, order or version in the header of an array."""
    length = int.from_bytes(member[8:10], "little")
    header, payload = member[10 : 10 + length].decode("latin1"), member[10 + length :]
    shape = rng.choice(
        ("()", "(64,)", "(-1,)", "(1e3,)", "(2**9,)", "(9999999999999,)", "(0,)", "None", "(1" + "0" * 99 + ",)")
    )
    header = rng.choice(
        (
            re.sub(r"\(.*?\)", shape, header),
            header.replace("<f4", rng.choice((">f4", "<f2", "|O", "<U4", "<i4", "V4", "<c8", "|b1", "<m8", ""))),
            header.replace("False", rng.choice(("True ", "0    ", "[]   ", "__import__('os').system('true')"))),
            header.replace("descr", "dascr"),
            "(" * 300 + header,
            "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9," * 200 + ")}",
        )
    )
    version = rng.choice((b"\x01\x00", b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
    return b"\x93NUMPY" + version + struct.pack("<H", len(header) % 65536) + header.encode("latin1") + payload


def read_members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {entry: archive.read(entry) for entry in archive.namelist()}


def write_members(rng: random.Random, members: Mapping[str, bytes]) -> bytes:
    """Write a zip archive with correct checksums, sometimes with one member twice."""
    content = io.BytesIO()
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with zipfile.ZipFile(content, "w", rng.choice(methods)) as archive:
        infos = [zipfile.ZipInfo(name) for name in members]
        for info, member in zip(infos, members.values(), strict=True):
            archive.writestr(info, member)
        if rng.random() < 0.2:
            twice = rng.choice(list(members))
            archive.NameToInfo.clear()
            archive.writestr(zipfile.ZipInfo(twice), rng.choice(list(members.values())))
    return content.getvalue()


def lying_directory(rng: random.Random, data: bytes) -> bytes:
    """Put a false value into a field of the central directory or of its end record."""
    records = [match.start() for match in re.finditer(b"PK\x01\x02", data)]
    fields = {8: 2, 10: 2, 16: 4, 20: 4, 24: 4, 28: 2, 30: 2, 32: 2, 42: 4}
    at, field = rng.choice(records), rng.choice(list(fields))
    size = fields[field]
    if rng.random() < 0.3:
        at, (field, size) = data.rindex(b"PK\x05\x06"), rng.choice(((8, 2), (10, 2), (12, 4), (16, 4), (20, 2)))
    old = int.from_bytes(data[at + field : at + field + size], "little")
    new = rng.choice(
        (0, 1, old + 1, old - 1, 2 * old, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), rng.getrandbits(8 * size))
    )
    return data[: at + field] + (new % 2 ** (8 * size)).to_bytes(size, "little") + data[at + field + size :]


SNIPPETS = (
    writers.op_global("posix", "system") + writers.op_tuple(writers.op_text("touch ../outside/executed")) + b"R",
    writers.op_global("builtins", "eval") + writers.op_tuple(writers.op_text("open('executed', 'w')")) + b"R",
    writers.op_global("torch._utils", "_rebuild_parameter"),
    writers.op_global("collections", "OrderedDict"),
    b"(", b"t", b"}", b"]", b")", b"N", b"0", b"1", b"2", b"R", b"b", b"s", b"u", b"Q", b"e", b"a", b".", b"\x85",
    b"\x86", b"\x94", b"h\x00", b"j\xff\xff\xff\xff", b"q\x00", b"r\xff\xff\xff\x7f", b"\x93", b"\x81", b"\x92",
    b"c\n\n", b"I" + b"9" * 5000 + b"\n", b"\x8b\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 8, b"B\xff\xff\xff\x7f",
    b"X\xff\xff\xff\xff", b")q\x01" + b"h\x01h\x01\x86q\x01" * 60, b"]" + b"(h\x00" * 50 + b"e" * 50, b"(" * 5000,
    b"K\x02J\xff\xff\xff\xff", b"\x80\x05", b"\x95" + b"\xff" * 8, b"P../outside/secret\n", b"F1e400\n",
    b"G\x7f\xf8" + b"\0" * 6, b"\x82\x01",
)  # fmt: skip
"""Opcodes that a pickle of weights does not need, that need what is missing, or that ask for a lot of memory."""


def change_pickle(rng: random.Random, content: bytes) -> bytes:
    """Delete, double, swap or insert opcodes, or change their arguments."""
    starts = [at for _, _, at in pickletools.genops(content) if at is not None]
    ends = [*starts[1:], len(content)]
    codes = [content[begin:end] for begin, end in zip(starts, ends, strict=True)]
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, other = rng.randrange(len(codes)), rng.randrange(len(codes))
        what = rng.randrange(6)
        if what == 0:
            codes.insert(at, rng.choice(SNIPPETS))
        elif what == 1:
            codes[at] = rng.choice(SNIPPETS)
        elif what == 2:
            codes.insert(at, codes[other])
        elif what == 3:
            codes[at], codes[other] = codes[other], codes[at]
        elif what == 4:
            code = codes[at]
            if code[:1] in (b"J", b"K", b"M"):
                number = rng.choice((0, 1, 2, -1, 3, 64, 2**31 - 1, -(2**31)))
                codes[at] = writers.op_int(number)
            elif code[:1] in (b"X", b"c"):
                names = [one for one in codes if one[:1] == code[:1]]
                codes[at] = rng.choice(names)
        elif len(codes) > 1:
            del codes[at]
    return b"".join(codes)


def forge_torch_zip(rng: random.Random, files: Files) -> Files:
    ((name, data),) = files.items()
    if rng.random() < 0.2:
        return {name: lying_directory(rng, data)}
    members = read_members(data)
    key = rng.choice(list(members))
    if rng.random() < 0.7:
        members["archive/data.pkl"] = change_pickle(rng, members["archive/data.pkl"])
    elif rng.random() < 0.4:
        members[key] = poisoned(rng, members[key])
    else:
        members[rng.choice(("archive/data/9", "../x", "other/data.pkl", "archive/data.pkl"))] = members.pop(key)
    return {name: write_members(rng, members)}


def forge_torch_legacy(rng: random.Random, files: Files) -> Files:
    ((name, data),) = files.items()
    stream, ends = io.BytesIO(data), [0]
    for _ in range(5):
        for _opcode in pickletools.genops(stream):
            pass
        ends.append(stream.tell())
    pickles = [data[begin:end] for begin, end in itertools.pairwise(ends)]
    if rng.random() < 0.2:
        return {name: data[: ends[-1]] + poisoned(rng, data[ends[-1] :])}
    which = rng.choice((3, 3, 3, 3, 4, 1, 2))
    pickles[which] = change_pickle(rng, pickles[which])
    if rng.random() < 0.1:
        pickles[which] = pickle.dumps(rng.choice(ODD_VALUES), 2)
    return {name: b"".join(pickles) + data[ends[-1] :]}


# HDF5 files are changed with h5py. They remain valid HDF5, but are wrong as weights or reach outside.

OUTSIDE = "decoy.h5"
"""A file next to the forged one, which must not be read."""

ChangeHDF5 = Callable[[random.Random, h5py.File, str], None]


def poison_dataset(rng: random.Random, file: Any, name: str) -> None:
    values = file[name][()]
    values.flat[rng.randrange(values.size)] = rng.choice((np.nan, np.inf, -np.inf))
    file[name][...] = values


def change_shape(rng: random.Random, file: Any, name: str) -> None:
    values = file[name][()]
    del file[name]
    file[name] = rng.choice((values.ravel(), values[..., None], values[:1], values.T, values[..., :0]))


def change_type(rng: random.Random, file: Any, name: str) -> None:
    values = file[name][()]
    del file[name]
    file[name] = rng.choice(
        (
            values.astype(">f8"), values.astype("f2"), values.astype("i4"), values.astype("S4"), "words",
            values.astype([("a", "f4"), ("b", "i4")]), values.astype(complex), h5py.Empty("f4"), file["/"].ref,
            values.astype("b"),
        )
    )  # fmt: skip


def make_enormous(rng: random.Random, file: Any, name: str) -> None:
    dims = file[name].shape
    del file[name]
    options = rng.choice(({}, {"chunks": (1024,), "compression": "gzip"}, {"chunks": (1 << 28,)}))
    size = rng.choice((1 << 28, 1 << 31, 1 << 40, 1 << 55))
    if rng.random() < 0.3:
        file.create_dataset(name, dims, "f4", chunks=tuple(dims), maxshape=(None,) * len(dims))
        file[name].resize([side << 12 for side in dims])
    else:
        file.create_dataset(name, (size,), "f4", **options)


def make_link(rng: random.Random, file: Any, name: str) -> None:
    del file[name]
    file[name] = rng.choice(
        (
            h5py.SoftLink("/nowhere"), h5py.SoftLink(f"/{name}"), h5py.ExternalLink(OUTSIDE, "/a"),
            h5py.ExternalLink(f"../outside/{OUTSIDE}", "/a"), h5py.ExternalLink("w.h5", "/"), file["/"],
        )
    )  # fmt: skip


def store_elsewhere(rng: random.Random, file: Any, name: str) -> None:
    values = file[name]
    dims, size = values.shape, values.size * 4
    del file[name]
    if rng.random() < 0.5:
        file.create_dataset(name, dims, "f4", external=[(rng.choice((OUTSIDE, f"../outside/{OUTSIDE}")), 0, size)])
        return
    layout = h5py.VirtualLayout(dims, "f4")
    layout[...] = h5py.VirtualSource(rng.choice((OUTSIDE, "../outside/" + OUTSIDE)), "a", dims)
    file.create_virtual_dataset(name, layout)


def delete_dataset(rng: random.Random, file: Any, name: str) -> None:
    del file[name]


def rename_dataset(rng: random.Random, file: Any, name: str) -> None:
    others = [other for other in datasets(file) if file[other].shape == file[name].shape]
    target = rng.choice((f"{name}x", "x", f"deep/{'a/' * 200}x", rng.choice(others)))
    if target in file:
        first, second = file[name][()], file[target][()]
        file[name][...], file[target][...] = second, first
    else:
        file.move(name, target)


def change_attributes(rng: random.Random, file: Any, name: str) -> None:
    holder = rng.choice((file, file[name], file[name].parent))
    key = rng.choice(("layer_names", "weight_names", "model_weights"))
    names: list[Any] = [
        [], [b"/"], [b".."], [b"."], [b""], [b"x\xff"], np.zeros((2, 2), "S3"), np.arange(3), "text", 1.5,
        [b"block1_conv1"] * 2, [b"block1_conv1", b"../block1_conv2"], h5py.Empty("S1"), file["/"].ref,
    ]  # fmt: skip
    holder.attrs[key] = rng.choice(names)


HDF5_CHANGES: tuple[ChangeHDF5, ...] = (
    poison_dataset, change_shape, change_type, make_enormous, make_link, store_elsewhere, delete_dataset,
    rename_dataset, change_attributes, change_attributes,
)  # fmt: skip


def datasets(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


def forge_hdf5(rng: random.Random, files: Files) -> Files:
    ((name, data),) = files.items()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        with h5py.File(path, "r+") as file:
            rng.choice(HDF5_CHANGES)(rng, file, rng.choice(datasets(file)))
        return {name: path.read_bytes()}


FORGERIES: Mapping[str, Forgery] = {
    "safetensors": forge_safetensors,
    "tfjs": forge_tfjs,
    "npz": forge_npz,
    "torch-zip": forge_torch_zip,
    "torch-legacy": forge_torch_legacy,
    "hdf5": forge_hdf5,
    "pickle": lambda rng, files: {name: change_pickle(rng, content) for name, content in files.items()},
}
"""How to forge the files of each container. Their checksums are correct, except for those in jnst's own files."""
