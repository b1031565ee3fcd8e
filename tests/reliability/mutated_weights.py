"""Damaged and forged weights files of every kind, each read by a process that is watched.

``python tests/reliability/mutated_weights.py --count 10000 --seed 1 -j 2`` prints what came of them, as JSON; ``--only
N`` reads one of them again and shows it. What is read must be what was written, or be refused in one line; where a
format has no checksum, other numbers of the right shapes may come of it, and nothing else.
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
"""Of its own computing, after which a reader hangs."""
PATIENCE = 120.0
"""Seconds that a reader may wait for something, and that it may take to begin."""
MEMORY = 256 << 20
"""Bytes that a reader may take beside what it has when it begins: the files have 160 kB at most."""
FORGED_SHARE = 0.4
SHOWN = 5


class Case(NamedTuple):
    """One file to read: of which kind, what was done to it, whether its checksums were made right again."""

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
    """Read a case: "equal", "refused", "fewer", "numbers", or a fault, and what there is to say of it."""
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
        return "fault: accepted in spite of checksums", f"{set(read.arrays) - same} of {set(read.arrays)}"
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
    """Read the cases of these numbers, and say after each what came of it."""
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
            said = verdict(case, inside, expected[case.kind])
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
            print(json.dumps([number, case.kind, case.done, *said, grown]), flush=True)


def results(seed: int, numbers: list[int]) -> Iterator[list[Any]]:
    """What came of each case; a process that crashes or hangs is replaced, and goes on behind the case."""
    left = collections.deque(numbers)
    while left:
        worker = subprocess.Popen(
            [sys.executable, __file__, "--seed", str(seed), "--work"],
            # Where a script's folder is kept off the module path it is put there.
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
                said = worker.stderr.read()[-300:] if worker.stderr else ""
                yield [number, case.kind, case.done, f"fault: {line or 'crash'}", said, 0]


def next_line(worker: subprocess.Popen[str]) -> str:
    """What a worker says next; nothing if it has ended, "hang" if it says nothing."""
    assert worker.stdout
    begun, computed = time.monotonic(), computing(worker)
    while not select.select([worker.stdout], [], [], 1.0)[0]:
        if computing(worker) - computed > SECONDS or time.monotonic() - begun > PATIENCE:
            return "hang"
    return worker.stdout.readline()


def computing(worker: subprocess.Popen[str]) -> float:
    """Seconds that a process has computed: where others want the machine too, the clock says nothing."""
    fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(seed: int, count: int, jobs: int) -> dict[str, Any]:
    """Read so many cases in so many processes at once; counts of what came of them, and the faults."""
    parts = [list(range(first, count, jobs)) for first in range(jobs)]
    with ThreadPoolExecutor(jobs) as pool:
        said = [one for part in pool.map(lambda part: list(results(seed, part)), parts) for one in part]
    table = {name: Counter[str]() for name in KINDS}
    for _, kind, _, what, _, _ in said:
        table[kind][what] += 1
    faults = sorted(one for one in said if one[3].startswith("fault"))
    total = sum(table.values(), Counter[str]())
    return {
        "count": len(said),
        "total": dict(total),
        "kinds": {name: dict(sorted(counts.items())) for name, counts in table.items()},
        "megabytes grown": max(one[5] for one in said),
        "faults": faults,
    }


def show(seed: int, number: int, folder: Path) -> None:
    """Keep one case, and read it."""
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
