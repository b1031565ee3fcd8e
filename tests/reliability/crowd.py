"""Many processes that want the same weights at once, and downloads that are killed at random moments.

``python tests/reliability/crowd.py --rounds 20 --processes 32 --kills 50`` prints the result as JSON.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import fake_server
from fake_server import Answer, FakeServer, correct, first, half, serving, slow
from published import keras_file, row

from jnst.weights import store
from jnst.weights.registry import SOURCES

NAME = "vgg19/crowd"
SECONDS = 60.0
"""The time after which something hangs."""

CONTENT = keras_file()

ANSWERS: tuple[tuple[Answer, int], ...] = (
    (slow, 1),
    (correct, 1),
    (slow, 1),
    (first(half), 2),
    (slow, 1),
    (first(fake_server.send(bytes(len(CONTENT)))), 2),
    (slow, 1),
    (first(fake_server.status(503)), 2),
    (slow, 1),
    (first(fake_server.reset), 2),
)
"""How the server answers in each round, in turn, and how many requests a download then takes."""

_barrier: Any = None


def begin(address: str, barrier: Any = None) -> None:
    """Prepare a process for downloads."""
    global _barrier
    _barrier = barrier
    os.environ.pop("JNST_OFFLINE", None)
    SOURCES[NAME] = row(f"{address}/weights.bin", CONTENT)


def fetch(folder: str) -> str:
    """Wait until all processes are ready, then fetch the weights; return their hash."""
    os.environ["JNST_CACHE"] = folder
    if _barrier is not None:
        _barrier.wait(SECONDS)
    return hashlib.sha256(store.fetch(NAME).read_bytes()).hexdigest()


def fetch_alone(address: str, folder: str) -> None:
    """The work of a process that is killed."""
    begin(address)
    fetch(folder)


def rounds(context: Any, server: FakeServer, count: int, processes: int) -> dict[str, Any]:
    """Let many processes fetch the same weights at once, into an empty cache in each round."""
    barrier, hashes, requests, expected = context.Barrier(processes), Counter[str](), list[int](), list[int]()
    with context.Pool(processes, begin, (server.address, barrier)) as pool:
        for number in range(count):
            server.answer, needed = ANSWERS[number % len(ANSWERS)]
            server.requested.clear()
            expected.append(needed)
            with tempfile.TemporaryDirectory() as folder:
                hashes.update(pool.map_async(fetch, [folder] * processes, chunksize=1).get(SECONDS))
            requests.append(len(server.requested))
    return {"files": hashes.total(), "different": len(hashes), "requests": requests, "expected requests": expected}


def kills(context: Any, server: FakeServer, count: int) -> dict[str, Any]:
    """Kill a download at a random moment, look at what is left, and fetch the weights from another process."""
    generator, left, hashes, waits = random.Random(0), Counter[str](), Counter[str](), list[float]()
    server.answer = slow
    begin(server.address)
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["JNST_CACHE"] = folder
            victim = context.Process(target=fetch_alone, args=(server.address, folder))
            victim.start()
            time.sleep(generator.uniform(0.0, 1.0))
            victim.kill()
            victim.join()
            entry = Path(folder, "weights", NAME.replace("/", "-"))
            left[describe(entry)] += 1
            started = time.monotonic()
            hashes[fetch(folder)] += 1
            waits.append(time.monotonic() - started)
            clean = sorted(file.name for file in entry.iterdir()) == ["lock", "record.json", "weights.safetensors"]
            left["not cleaned up"] += not clean
    return {"kills": count, "left": dict(left), "different": len(hashes), "longest waits": sorted(waits)[-3:]}


def describe(entry: Path) -> str:
    """Say what a killed download left: weights, damaged or not, unchecked files, or nothing."""
    faults = [verdict.fault for verdict in store.verify() if verdict.name == NAME]
    if faults:
        return "damaged" if faults[0] else "weights"
    return "unchecked files" if any((entry / "partial").glob("*")) else "nothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--kills", type=int, default=5)
    args = parser.parse_args()
    # Forked from a process that has imported everything, so that imports take no time.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["crowd", "pooch", "requests"])
    with serving({"weights.bin": CONTENT}) as server:
        result = {"rounds": rounds(context, server, args.rounds, args.processes)} if args.rounds else {}
        result |= {"kills": kills(context, server, args.kills)} if args.kills else {}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
