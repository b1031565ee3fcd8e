"""Give damaged image files to `jnst.load_image`, and check that each is either decoded or refused with an `ImageError`.

``python tests/reliability/mutated_images.py --count 100000 --seed 1 -j 2`` prints a summary as JSON and keeps the files
that caused a fault. ``--only NUMBER`` repeats a single file in this process. Requires Linux, to measure peak memory.
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

from jnst.apps.io import image_size, load_image
from jnst.apps.io.decode import MAX_PIXELS
from jnst.errors import ImageError
from jnst.weights.files import shown

KINDS = ("PNG", "JPEG", "WebP", "TIFF", "GIF", "PNG", "JPEG", "WebP", "TIFF", "GIF", "other")
SIZES = (None, None, None, 1, 9, 40)
SECONDS = 5.0
"""CPU time after which a file counts as hanging. Unlike wall time, it does not depend on other processes."""

LARGE = 40_000_000
"""Files that claim more pixels may take proportionally longer."""

MAX_MESSAGE = 300
"""The allowed length of a message in characters, including the file's name."""

TIFF = (b"II", b"MM")
"""How TIFF files begin. For these, libtiff may write to standard error."""

SPARE, BYTES_PER_STORED_PIXEL, BYTES_PER_RESULT_PIXEL = 48 * 2**20, 48, 32
"""The memory that loading may take: a constant, and an amount for each pixel in the file and in the result."""


class Outcome(NamedTuple):
    """The result of loading a file: whether it was decoded, what was wrong, the CPU time and the peak memory."""

    number: int
    name: str
    decoded: bool
    fault: str
    seconds: float
    peak: int


@cache
def intact_files() -> Mapping[str, bytes]:
    return seeds()


def make_mutant(seed: int, number: int) -> tuple[str, bytes, int | None]:
    """Make a damaged file: the name of the intact file, the damaged bytes, and the size to load it at."""
    rng = random.Random(f"{seed} {number}")
    kind = rng.choice(KINDS)
    name = rng.choice([name for name in intact_files() if name.startswith(kind)])
    return name, mutant(rng, name, intact_files()), rng.choice(SIZES)


def examine(path: Path, size: int | None = None) -> tuple[bool, str]:
    """Load a file. Return whether it was decoded, and a description of the fault if there was one."""
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
    ours = [str(warning.message) for warning in caught if not is_from_pillow(warning)]
    faulty = [message for message in ours if message_fault(message, path)]
    return shape is not None, fault or (f"an unexpected warning: {faulty[0]}" if faulty else "")


def is_from_pillow(warning: warnings.WarningMessage) -> bool:
    """Whether Pillow warns about damaged EXIF data, or about the size of a GIF, in its own words."""
    return Path(warning.filename).parent.name == "PIL"


def image_fault(image: jax.Array, size: int | None) -> str:
    if image.dtype != jnp.float32 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        return f"{image.dtype} of shape {image.shape}"
    values = np.asarray(image)
    if not (values.min() >= 0 and values.max() <= 1):  # also true for NaN
        return f"values from {values.min()} to {values.max()}"
    return "" if size in (None, max(image.shape)) or size < 3 else f"shape {image.shape} for size {size}"


def message_fault(message: str, path: Path) -> str:
    if "\n" in message or not message.isprintable():
        return f"not one line: {message!r}"
    if shown(path) not in message:
        return f"does not name the file: {message}"
    return "" if len(message) <= MAX_MESSAGE else f"{len(message)} characters: {message}"


def memory() -> int:
    """The resident memory of this process in bytes. Resets the peak."""
    Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """The peak of the resident memory in bytes since the last call of `memory`."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def claimed_pixels(path: Path) -> int:
    """The number of pixels that a file claims; 0 if its header is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            height, width = image_size(path)
        except ImageError:
            return 0
    return height * width


def allowed_memory(path: Path, size: int | None) -> int:
    """The memory in bytes that loading a file may take."""
    pixels = claimed_pixels(path)
    return SPARE + BYTES_PER_STORED_PIXEL * pixels + BYTES_PER_RESULT_PIXEL * (pixels if size is None else size * size)


def check(seed: int, number: int, path: Path) -> Outcome:
    """Make a damaged file, load it, and measure time and memory."""
    name, data, size = make_mutant(seed, number)
    path.write_bytes(data)
    before = memory()
    started = time.process_time()
    decoded, fault = examine(path, size)
    seconds = time.process_time() - started
    taken = peak() - before
    if seconds > SECONDS * max(1, claimed_pixels(path) / LARGE):
        fault = fault or f"took {seconds:.1f} s"
    if taken > SPARE and taken > allowed_memory(path, size):
        fault = fault or f"took {taken >> 20} MiB, {allowed_memory(path, size) >> 20} are allowed"
    return Outcome(number, name, decoded, fault, seconds, taken)


class Task(NamedTuple):
    """The seed of the files, the function that checks one, and the CPU time in seconds after which a file hangs."""

    seed: int
    check: Callable[[int, int, Path], Outcome] = check
    seconds: float = SECONDS


def work(task: Task, begin: int, end: int, folder: Path, results: Any) -> None:
    """Check files one after another in this process. A hang or a crash ends the process."""
    errors = os.open(folder / f"{begin}.err", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC)
    os.dup2(errors, 2)
    faulthandler.enable(errors)
    # SIGPROF prints a traceback even while a library is running, and then ends the process.
    faulthandler.register(signal.SIGPROF, errors, chain=True)
    path = folder / f"{begin}.image"
    for name in {name.partition("/")[0]: name for name in intact_files()}.values():  # warm up imports and caches
        path.write_bytes(intact_files()[name])
        examine(path)
    os.ftruncate(errors, 0)
    for number in range(begin, end):
        signal.setitimer(signal.ITIMER_PROF, task.seconds * MAX_PIXELS / LARGE)
        faulthandler.dump_traceback_later(40 * task.seconds, exit=True, file=errors)  # for waits without CPU time
        outcome = task.check(task.seed, number, path)
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        if written := os.pread(errors, 400, 0):
            os.ftruncate(errors, 0)
            if not path.read_bytes().startswith(TIFF):
                outcome = outcome._replace(fault=outcome.fault or f"output on standard error: {written!r}")
        results.send(outcome)


def check_range(context: Any, task: Task, begin: int, end: int, folder: Path) -> list[Outcome]:
    """Check files in a child process, and in a new one after each file that killed it."""
    outcomes: list[Outcome] = []
    while begin < end:
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(task, begin, end, folder, sending))
        process.start()
        sending.close()
        try:
            while True:
                outcomes.append(receiving.recv())
        except EOFError:
            process.join()
        reached = outcomes[-1].number + 1 if outcomes else begin
        # Only the first file of a process is blamed, so that a busy machine does not cause a fault.
        if reached < end and reached == begin:
            errors = (folder / f"{begin}.err").read_text(errors="replace")
            name, fault = make_mutant(task.seed, begin)[0], f"died, {process.exitcode}: {errors}"
            outcomes.append(Outcome(begin, name, False, fault, task.seconds, 0))
            reached += 1
        begin = reached
    return outcomes


def run(task: Task, count: int, jobs: int, kept: Path) -> list[Outcome]:
    """Check damaged files in several processes, and keep those that caused a fault."""
    context = multiprocessing.get_context("spawn")
    ranges = [(count * job // jobs, count * (job + 1) // jobs) for job in range(jobs)]
    found: list[list[Outcome]] = [[] for _ in ranges]
    with tempfile.TemporaryDirectory() as folder:

        def check_share(job: int) -> None:
            found[job] = check_range(context, task, *ranges[job], Path(folder))

        threads = [threading.Thread(target=check_share, args=(job,)) for job in range(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    outcomes = [outcome for part in found for outcome in part]
    for outcome in outcomes:
        if outcome.fault:
            kept.mkdir(parents=True, exist_ok=True)
            (kept / f"{task.seed}-{outcome.number}").write_bytes(make_mutant(task.seed, outcome.number)[1])
    return outcomes


def summary(seed: int, outcomes: list[Outcome]) -> dict[str, Any]:
    decoded = Counter(outcome.name.split("/")[0] for outcome in outcomes if outcome.decoded)
    refused = Counter(outcome.name.split("/")[0] for outcome in outcomes if not outcome.decoded)
    command = f"python {sys.argv[0]} --seed {seed} --only"
    faults = [outcome for outcome in outcomes if outcome.fault]
    return {
        "files": len(outcomes),
        "decoded": dict(decoded),
        "refused": dict(refused),
        "faults": [f"{outcome.name}: {outcome.fault} ({command} {outcome.number})" for outcome in faults],
        "longest_seconds": round(max(outcome.seconds for outcome in outcomes), 3),
        "largest_peak_mib": max(outcome.peak for outcome in outcomes) >> 20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir(), "mutated-images"))
    parser.add_argument("--only", type=int, help="the number of a single file to check again")
    args = parser.parse_args()
    if args.only is None:
        outcomes = run(Task(args.seed), args.count, args.jobs, args.keep)
    else:
        with tempfile.TemporaryDirectory() as folder:
            outcomes = [check(args.seed, args.only, Path(folder, "image"))]
    report = summary(args.seed, outcomes)
    print(json.dumps(report, indent=2))
    sys.exit(bool(report["faults"]))


if __name__ == "__main__":
    main()
