"""Damaged image files, each given to `jnst.load_image`: it is decoded or refused, and nothing else ever happens.

``python tests/reliability/mutated_images.py --count 100000 --seed 1 -j 2`` prints what came of it, as JSON, and keeps
the files at fault; ``--only NUMBER`` looks at one file again, in this process. Requires Linux for the memory's peak.
"""

import argparse
import faulthandler
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from mutated_images_changes import mutant
from mutated_images_seeds import seeds

from jnst.apps.io import load_image
from jnst.apps.io.decode import MAX_PIXELS
from jnst.apps.io.peek import image_size
from jnst.errors import ImageError
from jnst.weights.files import shown

KINDS = ("PNG", "JPEG", "WebP", "TIFF", "GIF", "PNG", "JPEG", "WebP", "TIFF", "GIF", "other")
SIZES = (None, None, None, 1, 9, 40)
SECONDS = 5.0
"""Of the processor's time, which a busy machine does not prolong: after so many a file hangs."""

LARGE = 40_000_000
"""Pixels from which on a file may take more, in proportion."""

LONGEST = 300
"""Characters that a message may have, its file's name included."""

TIFF = (b"II", b"MM")
"""How files begin of which libtiff, inside Pillow, may say on standard error what is wrong with them."""

SPARE, A_STORED_PIXEL, A_READ_PIXEL = 48 * 2**20, 48, 32
"""What a file may take in memory: so many bytes, and so many for each pixel that it claims and that is asked for."""


class Seen(NamedTuple):
    """What came of a file: whether it was decoded, what is wrong with that, how long it took, and memory's peak."""

    number: int
    name: str
    decoded: bool
    fault: str
    seconds: float
    peak: int


@cache
def whole() -> Mapping[str, bytes]:
    return seeds()


def made(seed: int, number: int) -> tuple[str, bytes, int | None]:
    """A damaged file: the name of what it was made from, its bytes, and the size to load it at."""
    dice = random.Random(f"{seed} {number}")
    kind = dice.choice(KINDS)
    name = dice.choice([name for name in whole() if name.startswith(kind)])
    return name, mutant(dice, name, whole()), dice.choice(SIZES)


def examine(path: Path, size: int | None = None) -> tuple[bool, str]:
    """Load a file; whether it was decoded, and what is wrong with how that went."""
    shape = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            image = load_image(path, size)
            shape, fault = image.shape, image_fault(image, size)
        except ImageError as error:
            fault = message_fault(str(error), path)
        except Exception as error:
            fault = f"{type(error).__name__} escaped: {error}"
        try:
            own = image_size(path)
            if shape is not None and size is None and own != shape[:2]:
                fault = fault or f"image_size says {own}, load_image gives {shape[:2]}"
        except ImageError as error:
            fault = fault or message_fault(str(error), path)
            if shape is not None:
                fault = fault or f"image_size refuses what load_image reads: {error}"
        except Exception as error:
            fault = fault or f"{type(error).__name__} escaped image_size: {error}"
    foreign = [str(warning.message) for warning in caught if message_fault(str(warning.message), path)]
    return shape is not None, fault or (f"a warning that is not ours: {foreign[0]}" if foreign else "")


def image_fault(image: jax.Array, size: int | None) -> str:
    if image.dtype != jnp.float32 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        return f"{image.dtype} of shape {image.shape}"
    values = np.asarray(image)
    if not (values.min() >= 0 and values.max() <= 1):  # false for NaN, too
        return f"values from {values.min()} to {values.max()}"
    return "" if size in (None, max(image.shape)) or size < 3 else f"shape {image.shape} for size {size}"


def message_fault(message: str, path: Path) -> str:
    if "\n" in message or not message.isprintable():
        return f"not one line: {message!r}"
    if shown(path) not in message:
        return f"does not name the file: {message}"
    return "" if len(message) <= LONGEST else f"{len(message)} characters: {message}"


def memory() -> int:
    """What this process has in memory now; from here on a new peak is measured."""
    Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def claimed(path: Path) -> int:
    """How many pixels a file says it has, if it is not refused for what it says."""
    try:
        height, width = image_size(path)
    except ImageError:
        return 0
    return height * width


def allowed(path: Path, size: int | None) -> int:
    """The memory that reading a file may take in addition, in bytes."""
    pixels = claimed(path)
    return SPARE + A_STORED_PIXEL * pixels + A_READ_PIXEL * (pixels if size is None else size * size)


def look(seed: int, number: int, path: Path, measured: bool = True) -> Seen:
    name, data, size = made(seed, number)
    path.write_bytes(data)
    before = memory() if measured else 0
    started = time.process_time()
    decoded, fault = examine(path, size)
    seconds = time.process_time() - started
    taken = peak() - before if measured else 0
    if seconds > SECONDS * max(1, claimed(path) / LARGE):
        fault = fault or f"took {seconds:.1f} s"
    if taken > SPARE and taken > allowed(path, size):
        fault = fault or f"took {taken >> 20} MiB, {allowed(path, size) >> 20} are allowed"
    return Seen(number, name, decoded, fault, seconds, taken)


class Task(NamedTuple):
    """Which files are looked at by a process: their seed, how, and after how many seconds one hangs."""

    seed: int
    look: Callable[[int, int, Path], Seen] = look
    seconds: float = SECONDS


def work(task: Task, begin: int, end: int, folder: Path, results: Any) -> None:
    """Look at files one after another; a hang or a crash ends the process, and the rest is another's."""
    words = os.open(folder / f"{begin}.err", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC)
    os.dup2(words, 2)
    faulthandler.enable(words)
    faulthandler.register(signal.SIGPROF, words, chain=True)  # works within libraries, and ends the process
    path = folder / f"{begin}.image"
    for name in {name.partition("/")[0]: name for name in whole()}.values():  # imports and first uses
        path.write_bytes(whole()[name])
        examine(path)
    os.ftruncate(words, 0)
    for number in range(begin, end):
        signal.setitimer(signal.ITIMER_PROF, task.seconds * MAX_PIXELS / LARGE)
        faulthandler.dump_traceback_later(12 * task.seconds, exit=True, file=words)  # if it waits for something
        seen = task.look(task.seed, number, path)
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        if said := os.pread(words, 400, 0):
            os.ftruncate(words, 0)
            if not path.read_bytes().startswith(TIFF):
                seen = seen._replace(fault=seen.fault or f"words on standard error: {said!r}")
        results.send(seen)


def looked(context: Any, task: Task, begin: int, end: int, folder: Path) -> list[Seen]:
    """What a process and, if it dies, its heirs see of some files."""
    seen: list[Seen] = []
    while begin < end:
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(task, begin, end, folder, sending))
        process.start()
        sending.close()
        try:
            while True:
                seen.append(receiving.recv())
        except EOFError:
            process.join()
        reached = seen[-1].number + 1 if seen else begin
        if reached < end and reached == begin:  # at the first file, so not because this machine stood still for a while
            words = (folder / f"{begin}.err").read_text(errors="replace")
            name, fault = made(task.seed, begin)[0], f"died, {process.exitcode}: {words}"
            seen.append(Seen(begin, name, False, fault, task.seconds, 0))
            reached += 1
        begin = reached
    return seen


def run(task: Task, count: int, jobs: int, kept: Path) -> list[Seen]:
    """Look at so many damaged files, and keep those at fault."""
    context = multiprocessing.get_context("spawn")
    shares = [(count * job // jobs, count * (job + 1) // jobs) for job in range(jobs)]
    found: list[list[Seen]] = [[] for _ in shares]
    with tempfile.TemporaryDirectory() as folder:

        def share(job: int) -> None:
            found[job] = looked(context, task, *shares[job], Path(folder))

        threads = [threading.Thread(target=share, args=(job,)) for job in range(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    seen = [one for part in found for one in part]
    for one in seen:
        if one.fault:
            kept.mkdir(parents=True, exist_ok=True)
            (kept / f"{task.seed}-{one.number}").write_bytes(made(task.seed, one.number)[1])
    return seen


def summary(seed: int, seen: list[Seen]) -> dict[str, Any]:
    decoded = Counter(one.name.split("/")[0] for one in seen if one.decoded)
    refused = Counter(one.name.split("/")[0] for one in seen if not one.decoded)
    command = f"python {sys.argv[0]} --seed {seed} --only"
    return {
        "files": len(seen),
        "decoded": dict(decoded),
        "refused": dict(refused),
        "faults": [f"{one.name}: {one.fault} ({command} {one.number})" for one in seen if one.fault],
        "longest_seconds": round(max(one.seconds for one in seen), 3),
        "largest_peak_mib": max(one.peak for one in seen) >> 20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir(), "mutated-images"))
    parser.add_argument("--only", type=int, help="the number of one file to look at again")
    args = parser.parse_args()
    if args.only is None:
        seen = run(Task(args.seed), args.count, args.jobs, args.keep)
    else:
        with tempfile.TemporaryDirectory() as folder:
            seen = [look(args.seed, args.only, Path(folder, "image"))]
    report = summary(args.seed, seen)
    print(json.dumps(report, indent=2))
    sys.exit(bool(report["faults"]))


if __name__ == "__main__":
    main()
