"""Hostile files that reach outside or ask for too much memory: refused, without touching or taking anything."""

import io
import json
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import writers

KERNEL = np.ones((3, 3, 3, 64), np.float32)

READ = """
import json, sys
from pathlib import Path
sys.path.append(sys.argv[1])
import watched
from jnst.errors import WeightsError
from jnst.weights.load import load_backbone

inside, outside, *names = map(Path, sys.argv[2:])

def message(path):
    try:
        load_backbone("vgg19", path)
    except WeightsError as error:
        return str(error)
    return "accepted"

for name in ("sound.h5", "sound.npz", "sound.safetensors", "sound.pth"):
    message(inside / name)
watched.begin(inside, outside)
watched.limit_memory(256 << 20)
for name in names:
    with watched.untouched(inside, [str(name)]):
        print(json.dumps(message(inside / name)), flush=True)
"""


def bomb(path: Path) -> None:
    """Ten gigabytes of zeros in a few kilobytes."""
    with h5py.File(path, "w") as file:
        file.create_dataset("conv1_1/weight", (10 << 28,), "f4", chunks=(1 << 20,), compression="gzip", fillvalue=0)
        dataset: Any = file["conv1_1/weight"]
        dataset[: 1 << 20] = 0


def hidden_bomb(path: Path) -> None:
    """A chunk that decompresses to much more than its dataset contains."""
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("conv1_1/weight", KERNEL.shape, "f4", chunks=KERNEL.shape, compression="gzip")
        dataset.id.write_direct_chunk((0, 0, 0, 0), zlib.compress(bytes(300 << 20), 9))


def cycle(path: Path) -> None:
    with h5py.File(path, "w") as file:
        inner: Any = file.create_group("a/b")
        inner["c"] = file["a"]


def many_names(path: Path) -> None:
    """A group with two names at every level, so that the number of paths doubles with each."""
    with h5py.File(path, "w") as file:
        group: Any = file
        for _ in range(40):
            below = group.create_group("a")
            group["b"] = below
            group = below
        group["x"] = 1.0


def named(path: Path, name: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        content = io.BytesIO()
        np.save(content, KERNEL)
        archive.writestr(name, content.getvalue())


def zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("conv1_1/weight.npy", bytes(300 << 20))


def lying_zip_bomb(path: Path) -> None:
    """The same with a directory that gives a small size."""
    zip_bomb(path)
    data = path.read_bytes()
    at = data.rindex(b"PK\x01\x02")
    path.write_bytes(data[: at + 24] + struct.pack("<I", 7000) + data[at + 28 :])


def twice(path: Path, write: Callable[[Path, Any], Path], name: str) -> None:
    write(path, {"conv1_1/weight": KERNEL})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(name, archive.read(name))


def pickled(path: Path, content: bytes) -> None:
    writers.legacy_around(path, content, {})


def calling(function: str, argument: str) -> bytes:
    module, name = function.rsplit(".", 1)
    return writers.op_global(module, name) + writers.op_tuple(writers.op_text(argument)) + b"R"


def header(path: Path, entries: Any, length: int | None = None, payload: bytes = b"\0" * 8) -> None:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", length or len(text)) + text + payload)


def linked(path: Path, link: Any) -> None:
    with h5py.File(path, "w") as file:
        file["conv1_1/weight"] = link


def overlapping(path: Path) -> None:
    header(path, {"a": ENTRY, "b": ENTRY})


def doubled(path: Path) -> None:
    entry = json.dumps(ENTRY).encode()
    header(path, b'{"a":' + entry + b',"a":' + entry + b"} ")


def stored_outside(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("conv1_1/weight", KERNEL.shape, "f4", external=[("secret", 0, KERNEL.nbytes)])


def virtual(path: Path) -> None:
    layout = h5py.VirtualLayout(KERNEL.shape, "f4")
    layout[...] = h5py.VirtualSource("decoy.h5", "conv1_1/weight", KERNEL.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("conv1_1/weight", layout)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
STATE = writers.op_tensor("FloatStorage", "0", 2, (2,), (1,))

UNREADABLE = "not readable as safetensors"

HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "bomb.h5": (bomb, "declares"),
    "hidden-bomb.h5": (hidden_bomb, "not readable as HDF5"),
    "cycle.h5": (cycle, "inside itself"),
    "names.h5": (many_names, "inside itself"),
    "external.h5": (lambda path: linked(path, h5py.ExternalLink("decoy.h5", "/conv1_1/weight")), "ExternalLink"),
    "absolute.h5": (lambda path: linked(path, h5py.ExternalLink(str(path.with_name("secret")), "/x")), "ExternalLink"),
    "soft.h5": (lambda path: linked(path, h5py.SoftLink("/conv1_1/weight")), "SoftLink"),
    "stored.h5": (stored_outside, "another file"),
    "virtual.h5": (virtual, "virtual"),
    "names.npz": (lambda path: named(path, "../outside/x.npy"), "known naming scheme"),
    "bomb.npz": (zip_bomb, "declares"),
    "lying-bomb.npz": (lying_zip_bomb, "conv1_1/weight|not readable"),
    "twice.npz": (lambda path: twice(path, writers.write_npz, "conv1_1/weight.npy"), "2 entries"),
    "twice.pth": (lambda path: twice(path, writers.write_torch_zip, "archive/data.pkl"), "2 entries"),
    "system.pth": (lambda path: pickled(path, calling("os.system", "touch executed")), "os.system"),
    "eval.pth": (lambda path: pickled(path, calling("builtins.eval", "open('executed', 'w')")), "builtins.eval"),
    "import.pth": (lambda path: pickled(path, writers.op_global("antigravity", "x")), "antigravity"),
    "keys.pth": (
        lambda path: pickled(path, writers.op_dict({"a": STATE})[:-1] + writers.op_text("a") + STATE + b"u"), "twice",
    ),
    "text.pth": (lambda path: pickled(path, b"X\xff\xff\xff\xff"), "4294967295 bytes wanted"),
    "integer.pth": (lambda path: pickled(path, b"\x8b\xff\xff\xff\x7f"), "2147483647 bytes wanted"),
    "frame.pth": (lambda path: pickled(path, b"\x95\xff\xff\xff\xff\xff\xff\xff\x00"), "bytes wanted"),
    "overlap.safetensors": (overlapping, UNREADABLE),
    "beyond.safetensors": (lambda path: header(path, {"a": ENTRY | {"data_offsets": [8, 16]}}), UNREADABLE),
    "long.safetensors": (lambda path: header(path, {"a": ENTRY}, 100 << 30), UNREADABLE),
    "large.safetensors": (lambda path: header(path, {"a": ENTRY | {"shape": [1 << 62, 1 << 62]}}), UNREADABLE),
    "hole.safetensors": (lambda path: header(path, {"a": ENTRY}, payload=bytes(16)), UNREADABLE),
    "twice.safetensors": (doubled, "safetensors|known naming scheme"),
    "deep.safetensors": (lambda path: header(path, b'{"a":' * 50_000), UNREADABLE),
}  # fmt: skip
"""The files that are refused, and what the error says."""


def test_hostile_files_touch_nothing_and_take_little_memory(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    sound = {"conv1_1/weight": KERNEL, "conv1_1/bias": np.ones(64, np.float32)}
    for folder in (inside, outside):
        folder.mkdir()
        writers.write_hdf5(folder / "decoy.h5", sound)
        (folder / "secret").write_bytes(bytes(KERNEL.nbytes))
    for name, write in (
        ("sound.h5", writers.write_hdf5), ("sound.npz", writers.write_npz),
        ("sound.safetensors", writers.write_safetensors), ("sound.pth", writers.write_torch_zip),
    ):  # fmt: skip
        write(inside / name, sound)
    for name, (make, _) in HOSTILE.items():
        make(inside / name)
    reliability = Path(__file__).resolve().parents[1] / "reliability"
    names = ["sound.h5", *HOSTILE]
    finished = subprocess.run(
        [sys.executable, "-c", READ, str(reliability), str(inside), str(outside), *names],
        capture_output=True,
        text=True,
        timeout=300,
    )
    messages = dict(zip(names, map(json.loads, finished.stdout.splitlines()), strict=False))
    assert finished.returncode == 0, (finished.stderr[-2000:], messages)
    assert messages.pop("sound.h5") == "accepted"
    for name, (_, match) in HOSTILE.items():
        assert str(inside / name) in messages[name]
        assert re.search(match, messages[name]), messages[name]
        assert "MemoryError" not in messages[name]
    assert sorted(path.name for path in outside.iterdir()) == ["decoy.h5", "secret"]


def test_the_guards_work(tmp_path: Path) -> None:
    """The guards notice what they should, both in Python and in a library."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        writers.write_hdf5(folder / "decoy.h5", {"a": KERNEL})
    actions = (
        "open('decoy.h5')", "h5py.File('decoy.h5', 'r')", "h5py.File(inside / 'decoy.h5', 'r')", "os.system('true')",
        "socket.socket()", "open('new', 'w')", "import antigravity",
    )  # fmt: skip
    script = "import os, socket, sys, h5py\nfrom pathlib import Path\nsys.path.append(sys.argv[1])\nimport watched\n"
    script += "inside, outside = map(Path, sys.argv[2:])\nwatched.begin(inside, outside)\n"
    for action in ("inside.name", *actions):
        script += f"try:\n    with watched.untouched(inside, ['allowed']):\n        {action}\n"
        script += "except watched.Touched:\n    print('noticed')\nelse:\n    print('nothing')\n"
    arguments = [str(Path(__file__).resolve().parents[1] / "reliability"), str(inside), str(outside)]
    finished = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=300)
    assert finished.stdout.split() == ["nothing"] + ["noticed"] * len(actions), finished.stderr
