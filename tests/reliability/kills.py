"""Kill runs at random moments, and while they write a checkpoint or the image.

``python tests/reliability/kills.py --runs 100 --writes 50`` prints the results as JSON.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import runs
from runs import CHECKPOINT, OUTPUT, Watched

KILLS_IN_A_ROW = 5
"""The most kills of a run before it is allowed to finish."""


class Trial:
    """A folder in which a run is killed and continued several times, and then finishes."""

    def __init__(self, folder: Path, expected: str) -> None:
        self.folder, self._expected = folder, expected
        self.faults: list[str] = []
        runs.prepare(folder)

    def kill(self, watched: Watched, moment: Any) -> str:
        """Continue the run and kill it when ``moment(process)`` returns. Returns what it was doing."""
        process = runs.start(self.folder, runs.command("--resume"), watched)
        moment(process)
        process.kill()
        process.join()
        doing = "ended" if process.exitcode == 0 else ("computing", *Watched.KINDS)[watched.writing.value]
        if process.exitcode not in (0, -9):
            self.faults.append((self.folder / "stderr").read_text())
        self.faults += runs.check_files(self.folder)
        return doing

    def finish(self) -> None:
        """Let the run finish, and compare the result."""
        runs.finish(self.folder, runs.command("--resume"))
        self.faults += runs.check_files(self.folder)
        if runs.fingerprint(self.folder) != self._expected:
            self.faults.append("another result than without kills")
        if "Warning" in (self.folder / "stderr").read_text() or "damaged" in (self.folder / "stderr").read_text():
            self.faults.append((self.folder / "stderr").read_text())


def undisturbed() -> tuple[str, float]:
    """The fingerprint of a run that is not killed, and its seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs.prepare(folder)
        runs.finish(folder, runs.command("--resume"))
        fingerprint = runs.fingerprint(folder)
        for path in (folder / CHECKPOINT, folder / f"{CHECKPOINT}.previous"):
            path.unlink()
        # Again, without compilation.
        seconds = runs.finish(folder, runs.command("--resume"))
        assert runs.fingerprint(folder) == fingerprint, "two undisturbed runs differ"
        return fingerprint, seconds


def at_random_moments(count: int, expected: str, seconds: float, generator: random.Random) -> dict[str, Any]:
    """Kill runs at random moments."""
    return _trials(
        count, expected, lambda watched: lambda process: time.sleep(generator.uniform(0.0, seconds)), generator
    )


def while_writing(name: str, count: int, expected: str, generator: random.Random) -> dict[str, Any]:
    """Kill runs while they write a file."""
    kind = Watched.KINDS.index(name)
    writing = runs.PARTS * runs.PAUSE

    def moment(watched: Watched) -> Any:
        wanted = 1 if name == OUTPUT else generator.randrange(1, 6)

        def wait(process: Any) -> None:
            while process.is_alive() and watched.begun[kind] < wanted:
                time.sleep(0.0005)
            time.sleep(generator.uniform(0.0, writing))

        return wait

    return _trials(count, expected, moment, generator)


def _trials(count: int, expected: str, moment: Any, generator: random.Random) -> dict[str, Any]:
    done, doing, faults, finished = 0, dict[str, int](), list[str](), 0
    while done < count:
        with tempfile.TemporaryDirectory() as name:
            trial = Trial(Path(name), expected)
            for _ in range(min(generator.randint(1, KILLS_IN_A_ROW), count - done)):
                watched = Watched()
                what = trial.kill(watched, moment(watched))
                doing[what] = doing.get(what, 0) + 1
                done += what != "ended"
                if what == "ended":
                    break
            trial.finish()
            finished += 1
            faults += trial.faults
            print(f"{done} of {count} kills, {len(faults)} faults", file=sys.stderr)
    return {"kills": done, "while": doing, "results compared": finished, "faults": faults}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--writes", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    generator = random.Random(args.seed)
    expected, seconds = undisturbed()
    result = {
        "seconds of a run": round(seconds, 2),
        "at random": at_random_moments(args.runs, expected, seconds, generator),
    }
    for name in (CHECKPOINT, OUTPUT):
        result[f"writing {name}"] = while_writing(name, args.writes, expected, generator)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
