"""Damaged and forged weights files of every kind, each read by a process that is watched.

``python tests/reliability/mutated_weights.py --count 10000 --seed 1 -j 2`` prints the results as JSON; ``--only N``
reads one of the files again and shows it. A file must be read as it was written or be refused in one line. If its
format has no checksum, it may also be read as other numbers of the right shapes.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import watched
from weights_damage import damaged
from weights_forgeries import FORGERIES
from weights_kinds import KINDS, Files, Kind, Read

SECONDS = 5.0
"""A reader that uses more CPU time than this hangs."""
PATIENCE = 120.0
"""Seconds that a reader may wait, and that it may take to start."""
MEMORY = 256 << 20
"""Bytes that a reader may use in addition to what it has at the start. The files have 160 kB at most."""
FORGED_SHARE = 0.4
SHOWN = 5


class Case(NamedTuple):
    """A file to read: its kind, what was done to it, and whether its checksums were corrected afterwards."""

    kind: str
    done: str
    forged: bool
    files: Files


def make_case(seed: int, number: int) -> Case:
    rng = random.Random(f"{seed}/{number}")
    name = list(KINDS)[number % len(KINDS)]
    files = originals(name)
    if rng.random() < FORGED_SHARE:
        forged = FORGERIES[KINDS[name].container](rng, files)
        return Case(name, f"forged {KINDS[name].container}", True, forged)
    done, files = damaged(rng, files)
    return Case(name, done, False, files)


_originals: dict[str, Files] = {}


def originals(name: str) -> Files:
    if name not in _originals:
        _originals[name] = KINDS[name].files()
    return _originals[name]


def verdict(case: Case, folder: Path, expected: Read) -> tuple[str, str]:
    """Read a case; return "equal", "refused", "fewer", "numbers" or a fault, and the details."""
    kind = KINDS[case.kind]
    for name, content in case.files.items():
        (folder / name).write_bytes(content)
    path = folder / kind.main
    try:
        with watched.untouched(folder, case.files):
            read = kind.read(path)
    except kind.refusal as error:
        return refusal_verdict(str(error), path)
    except watched.Touched as error:
        return "fault: touched the outside", str(error)
    except BaseException as error:
        return "fault: another exception", f"{type(error).__name__}: {error}"[:300]
    return accepted_verdict(case, kind, read, expected)


def refusal_verdict(message: str, path: Path) -> tuple[str, str]:
    if "MemoryError" in message:
        return "fault: memory", message
    if not message.isprintable() or str(path.parent) not in message or len(message) > 800:
        return "fault: unclear message", repr(message)
    return "refused", message


def accepted_verdict(case: Case, kind: Kind, read: Read, expected: Read) -> tuple[str, str]:
    same = {name for name, array in read.arrays.items() if equal(array, expected.arrays.get(name))}
    checked = kind.checked and not (case.forged and kind.container != "safetensors")
    if len(same) == len(read.arrays) == len(expected.arrays) and read.about == expected.about:
        return "equal", ""
    if checked:
        return "fault: accepted despite checksums", f"{set(read.arrays) - same} of {set(read.arrays)}"
    if len(same) == len(read.arrays) and set(read.arrays) == set(list(expected.arrays)[: len(same)]):
        return "fewer", ""
    sound = list(read.arrays) == list(expected.arrays) and read.about == expected.about
    for name, array in read.arrays.items():
        known = expected.arrays.get(name)
        sound &= known is not None and (array.shape, array.dtype) == (known.shape, known.dtype)
        sound &= bool(np.isfinite(array).all())
    return ("numbers", "") if sound else ("fault: accepted", f"{read.about} {list(read.arrays)}"[:300])


def equal(array: np.ndarray, other: np.ndarray | None) -> bool:
    return other is not None and array.shape == other.shape and array.tobytes() == other.tobytes()


def work(seed: int, numbers: list[int]) -> None:
    """Read the cases with these numbers, and print the result of each."""
    with tempfile.TemporaryDirectory() as top:
        inside, outside = Path(top, "inside"), Path(top, "outside")
        for folder in (inside, outside):
            folder.mkdir()
            (folder / "decoy.h5").write_bytes(originals("HDF5")["w.h5"])
            (folder / "secret").write_bytes(b"\0" * 1000)
        expected = {}
        for name, kind in KINDS.items():
            for file, content in originals(name).items():
                (inside / file).write_bytes(content)
            expected[name] = kind.read(inside / kind.main)
            make_case(seed, list(KINDS).index(name))
        watched.begin(inside, outside)
        watched.limit_memory(MEMORY)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in numbers:
            case = make_case(seed, number)
            for path in inside.iterdir():
                if path.name not in ("decoy.h5", "secret"):
                    path.unlink()
            result = verdict(case, inside, expected[case.kind])
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
            print(json.dumps([number, case.kind, case.done, *result, grown]), flush=True)


def results(seed: int, numbers: list[int]) -> Iterator[list[Any]]:
    """Yield the result of each case. If a process crashes or hangs, another one continues after the case."""
    left = collections.deque(numbers)
    while left:
        worker = subprocess.Popen(
            [sys.executable, __file__, "--seed", str(seed), "--work"],
            # A script's folder is not on the module path if PYTHONSAFEPATH is set.
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert worker.stdin
        with worker, contextlib.closing(worker.stdin) as stdin:
            stdin.write(json.dumps(list(left)))
            stdin.close()
            begun, line = len(left), ""
            while left and (line := next_line(worker)).startswith("["):
                left.popleft()
                yield json.loads(line)
            if left:
                worker.kill()
                if len(left) == begun and not line:
                    raise RuntimeError(f"no case was read: {worker.stderr.read() if worker.stderr else ''}")
                case = make_case(seed, number := left.popleft())
                error = worker.stderr.read()[-300:] if worker.stderr else ""
                yield [number, case.kind, case.done, f"fault: {line or 'crash'}", error, 0]


def next_line(worker: subprocess.Popen[str]) -> str:
    """Return the next line of a worker; an empty string if it has ended, "hang" if it hangs."""
    assert worker.stdout
    begun, computed = time.monotonic(), computing(worker)
    while not select.select([worker.stdout], [], [], 1.0)[0]:
        if computing(worker) - computed > SECONDS or time.monotonic() - begun > PATIENCE:
            return "hang"
    return worker.stdout.readline()


def computing(worker: subprocess.Popen[str]) -> float:
    """Return the CPU time of a process in seconds, which does not depend on the load of the machine."""
    fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(seed: int, count: int, jobs: int) -> dict[str, Any]:
    """Read a number of cases in several processes; return counts of the results, and the faults."""
    parts = [list(range(first, count, jobs)) for first in range(jobs)]
    with ThreadPoolExecutor(jobs) as pool:
        rows = [row for part in pool.map(lambda part: list(results(seed, part)), parts) for row in part]
    table = {name: Counter[str]() for name in KINDS}
    for _, kind, _, result, _, _ in rows:
        table[kind][result] += 1
    faults = sorted(row for row in rows if row[3].startswith("fault"))
    total = sum(table.values(), Counter[str]())
    return {
        "count": len(rows),
        "total": dict(total),
        "kinds": {name: dict(sorted(counts.items())) for name, counts in table.items()},
        "megabytes grown": max(row[5] for row in rows),
        "faults": faults,
    }


def show(seed: int, number: int, folder: Path) -> None:
    """Write one case to a folder, and read it."""
    case = make_case(seed, number)
    folder.mkdir(exist_ok=True)
    for name, content in case.files.items():
        (folder / name).write_bytes(content)
    print(case.kind, case.done, folder / KINDS[case.kind].main, sep="\n", flush=True)
    print(KINDS[case.kind].read(folder / KINDS[case.kind].main))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-j", "--jobs", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="N")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "mutated"), help="for --only")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.seed, json.load(sys.stdin))
    elif args.only is not None:
        show(args.seed, args.only, args.folder)
    else:
        print(json.dumps(run(args.seed, args.count, args.jobs), indent=1))


if __name__ == "__main__":
    main()
