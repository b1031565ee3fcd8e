"""Many processes that want the same weights at once, and downloads killed at random moments.

``python tests/reliability/crowd.py --rounds 20 --processes 32 --kills 50`` prints what came of it, as JSON.
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

import liar
from liar import Handler, Liar, Lie, first, half, honest, serving
from published import PATIENT, keras_file, row

from jnst.weights import store
from jnst.weights.registry import SOURCES

NAME = "vgg19/crowd"
SECONDS = 60.0
"""After which something hangs."""

CONTENT = keras_file()


def slowly(handler: Handler, number: int) -> None:
    """The truth in many small parts: there is time for others to come, and to be killed in the middle."""
    begin, end = liar.asked_range(handler) or (0, len(CONTENT))
    if handler.headers["Range"]:
        content_range = f"bytes {begin}-{end - 1}/{len(CONTENT)}"
        handler.head(206, Content_Length=end - begin, Content_Range=content_range, ETag=liar.TAG)
    else:
        handler.head(200, Content_Length=end, ETag=liar.TAG)
    for position in range(begin, end, 8000):
        handler.wfile.write(CONTENT[position : min(end, position + 8000)])
        time.sleep(0.01)


LIES: tuple[tuple[Lie, int], ...] = (
    (slowly, 1),
    (honest, 1),
    (slowly, 1),
    (first(half), 2),
    (slowly, 1),
    (first(half, liar.from_the_beginning), 3),
    (slowly, 1),
    (first(liar.dressed(bytes(len(CONTENT)))), 2),
    (slowly, 1),
    (first(liar.status(503), liar.reset), 3),
)
"""How the server behaves in each round, in turn, and how many requests one download takes then."""

_barrier: Any = None


def begin(address: str, barrier: Any = None) -> None:
    """Make a process ready to download."""
    global _barrier
    _barrier = barrier
    os.environ.pop("JNST_OFFLINE", None)
    SOURCES[NAME] = row(f"{address}/weights.bin", CONTENT)
    store.TRANSPORT = PATIENT


def want(folder: str) -> str:
    """Wait until all are here, then get the weights; their hash."""
    os.environ["JNST_CACHE"] = folder
    if _barrier is not None:
        _barrier.wait(SECONDS)
    return hashlib.sha256(store.fetch(NAME).read_bytes()).hexdigest()


def want_alone(address: str, folder: str) -> None:
    """What a process does that may be killed."""
    begin(address)
    want(folder)


def rounds(context: Any, server: Liar, count: int, processes: int) -> dict[str, Any]:
    """Let so many processes want the same at once, in an empty cache each round."""
    barrier, hashes, asked, expected = context.Barrier(processes), Counter[str](), list[int](), list[int]()
    with context.Pool(processes, begin, (server.address, barrier)) as pool:
        for number in range(count):
            server.lie, requests = LIES[number % len(LIES)]
            server.asked.clear()
            expected.append(requests)
            with tempfile.TemporaryDirectory() as folder:
                hashes.update(pool.map_async(want, [folder] * processes, chunksize=1).get(SECONDS))
            asked.append(len(server.asked))
    return {"files": hashes.total(), "different": len(hashes), "requests": asked, "expected requests": expected}


def kills(context: Any, server: Liar, count: int) -> dict[str, Any]:
    """Kill a download at a random moment, look at what is visible, and let another process finish it."""
    generator, seen, hashes, waits = random.Random(0), Counter[str](), Counter[str](), list[float]()
    server.lie = slowly
    begin(server.address)
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["JNST_CACHE"] = folder
            victim = context.Process(target=want_alone, args=(server.address, folder))
            victim.start()
            time.sleep(generator.uniform(0.0, 0.5))
            victim.kill()
            victim.join()
            left = what_is_left(Path(folder, "weights", NAME.replace("/", "-")))
            server.asked.clear()
            started = time.monotonic()
            hashes[want(folder)] += 1
            waits.append(time.monotonic() - started)
            seen[left] += 1
            seen["gone on with"] += all(asked.range for asked in server.asked)
    return {"kills": count, "left": dict(seen), "different": len(hashes), "longest waits": sorted(waits)[-3:]}


def what_is_left(folder: Path) -> str:
    """What a killed download left: the weights, sound or not, or none and how much of the published file."""
    faults = [verdict.fault for verdict in store.verify() if verdict.name == NAME]
    if faults:
        return "corrupt" if faults[0] else "sound"
    try:
        size = (folder / "partial" / "weights.bin").stat().st_size
    except FileNotFoundError:
        return "nothing"
    return "a part" if size < len(CONTENT) else "all, unchecked"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--kills", type=int, default=5)
    args = parser.parse_args()
    # A server of processes that has imported everything already: what is tested is not how long imports take.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["crowd"])
    with serving({"weights.bin": CONTENT}) as server:
        result = {"rounds": rounds(context, server, args.rounds, args.processes)} if args.rounds else {}
        result |= {"kills": kills(context, server, args.kills)} if args.kills else {}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
