"""Run `jnst` with a small network in processes that can be killed, and check the files that are left.

The processes are forked from one that has imported everything. They write files slowly, so that they can be killed in
the middle of it.
"""

import hashlib
import json
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jnst
import jnst.weights.files
from jnst.apps.cli import main
from jnst.weights import Weights, save_weights

WIDTH, HEIGHT, STEPS = 48, 40, 8
PARTS, PAUSE = 12, 0.002
"""The number of parts in which a file is written, and the seconds between them."""
FLAGS = ("--content-layers", "relu2_1", "--style-layers", "relu1_1,relu2_1", "--size", WIDTH, "--pyramid")
FLAGS += ("--min-size", 30, "--steps", STEPS, "--average", 0.9, "--checkpoint-every", 1, "--log", "run.jsonl")
OUTPUT, CHECKPOINT, LOG = "out.png", "run.ckpt", "run.jsonl"

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload([__name__])


class Watched:
    """What the parent sees of a child: the kind of file that it is writing (0 for none), and how many it has begun."""

    KINDS = (CHECKPOINT, OUTPUT)

    def __init__(self) -> None:
        self.writing = context.Value("i", 0, lock=False)
        self.begun = context.Array("i", len(self.KINDS), lock=False)


def prepare(folder: Path) -> None:
    """Save two images and a network in a folder, and an old image in place of the result."""
    from PIL import Image

    backbone = jnst.make_backbone("convnet", widths="4/6")
    generator = np.random.default_rng(0)
    params = dict[str, np.ndarray]()
    for layer, kernel in (("conv1_1", (3, 3, 3, 4)), ("conv2_1", (3, 3, 4, 6))):
        params[f"{layer}/kernel"] = generator.normal(0, 0.3, kernel).astype(np.float32)
        params[f"{layer}/bias"] = np.zeros(kernel[-1], np.float32)
    weights = Weights("convnet", params, backbone.preprocessing, "test", "none", "MIT", {"widths": "4/6"})
    save_weights(folder / "net.safetensors", weights)
    for seed, name in enumerate(("content.png", "style.png", OUTPUT)):
        coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
        Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(folder / name)


def command(*flags: object) -> list[str]:
    """The command line of a run in a prepared folder."""
    files = ("stylize", "content.png", "style.png", "-o", OUTPUT, "--weights", "net.safetensors")
    return [str(word) for word in (*files, *FLAGS, "--checkpoint", CHECKPOINT, *flags)]


def carry_out(folder: str, words: list[str], watched: Watched | None) -> None:
    """In the child: run the command, with its output in files."""
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    jax.config.update("jax_disable_most_optimizations", True)
    if watched is not None:
        _slow_down(watched)
    status = main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _slow_down(watched: Watched) -> None:
    write = jnst.weights.files.replace_content

    def slowly(path: Any, data: Any, **options: Any) -> None:
        name = Path(os.fsdecode(path)).name
        if name not in Watched.KINDS:
            write(path, data, **options)
            return
        whole = data if isinstance(data, bytes) else b"".join(data)
        watched.writing.value = 1 + Watched.KINDS.index(name)
        watched.begun[Watched.KINDS.index(name)] += 1
        write(path, _parts(whole), **options)
        watched.writing.value = 0

    jnst.weights.files.replace_content = slowly


def _parts(whole: bytes) -> Iterator[bytes]:
    size = -(-len(whole) // PARTS)
    for begin in range(0, len(whole), size):
        yield whole[begin : begin + size]
        time.sleep(PAUSE)


def start(folder: Path, words: Iterable[str], watched: Watched | None = None) -> Any:
    """Start a run. The caller joins the process."""
    process = context.Process(target=carry_out, args=(str(folder), list(words), watched))
    process.start()
    return process


def finish(folder: Path, words: Iterable[str]) -> float:
    """Let a run finish, and return the seconds that it took."""
    begun = time.monotonic()
    process = start(folder, words)
    process.join(300)
    assert process.exitcode == 0, (folder / "stderr").read_text()
    return time.monotonic() - begun


def fingerprint(folder: Path, log: bool = True) -> str:
    """A hash of a run's files: the image, the last state, and the log without the seconds."""
    state = jnst.load_state(folder / CHECKPOINT)
    digest = hashlib.sha256((folder / OUTPUT).read_bytes())
    for name, leaf in sorted(state.leaves.items()):
        digest.update(name.encode() + np.asarray(leaf).tobytes())
    for line in (folder / LOG).read_text().splitlines() if log else ():
        digest.update(
            json.dumps({name: value for name, value in json.loads(line).items() if name != "seconds"}).encode()
        )
    return digest.hexdigest()


def check_files(folder: Path, interrupted: bool = False) -> list[str]:
    """What is wrong with the files of a run that was killed or interrupted.

    Args:
        folder: The folder of the run.
        interrupted: Whether the run could clean up: it leaves no temporary file, and its image has the current size,
            which can be smaller than the result's.
    """
    faults = [f"left over: {path.name}" for path in folder.glob(".*.tmp")] if interrupted else []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for name in (CHECKPOINT, f"{CHECKPOINT}.previous"):
            if (folder / name).exists():
                try:
                    jnst.load_state(folder / name)
                except jnst.JnstError as error:
                    faults.append(str(error))
    faults += [str(warning.message) for warning in said]
    try:
        shape = jnst.load_image(folder / OUTPUT).shape
        faults += [f"{OUTPUT} is of {shape}"] if not interrupted and shape != (HEIGHT, WIDTH, 3) else []
    except jnst.JnstError as error:
        faults.append(str(error))
    return faults
