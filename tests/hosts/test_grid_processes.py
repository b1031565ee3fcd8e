"""A catalogue that processes share: the same files as from one process, also after one of them was killed."""

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from members import UNOPTIMISED, Process, environment, free_port, started
from PIL import Image

SCRIPT = Path(__file__).with_name("grid_member.py")
QUICK = ("--size", "24", "--steps", "2", "--optimizer", "adam", "--no-sheet")
QUICK += ("--content-layers", "relu1_1", "--style-layers", "relu1_1")
JOBS = 6
PATIENCE = 90
"""Seconds that a run may take where the machine is busy."""


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three contents and two styles, of one size, so that there is little to compile."""
    folder, rng = tmp_path_factory.mktemp("catalogue"), np.random.default_rng(0)
    for name, count in (("contents", 3), ("styles", 2)):
        (folder / name).mkdir()
        for number in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
            coarse.resize((24, 18)).save(folder / name / f"{number}.png")
    return folder


def commands(catalogue: Path, output: Path, count: int) -> list[list[str]]:
    """`jnst grid` in so many processes; one alone is not told of others."""
    line = [sys.executable, str(SCRIPT), "grid", "--contents", str(catalogue / "contents")]
    line += ["--styles", str(catalogue / "styles"), "-o", str(output), *QUICK]
    if count == 1:
        return [line]
    hosts = ["--distributed", "--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", str(count)]
    hosts += ["--heartbeat", "3"]
    return [[*line, *hosts, "--process-id", str(rank)] for rank in range(count)]


def journals(output: Path) -> list[list[str]]:
    """For each process the files that it made, as its journal has them."""
    paths = sorted(output.glob("journal*.jsonl"))
    return [[json.loads(line)["file"] for line in path.read_text().splitlines()] for path in paths]


def pictures(output: Path) -> dict[str, bytes]:
    """The jobs' pictures, by the names in the index."""
    index = json.loads((output / "index.json").read_text())
    return {job["file"]: (output / job["file"]).read_bytes() for job in index["jobs"]}


def wait_until(condition: Callable[[], bool], processes: Sequence[Process]) -> None:
    ended = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ended
        for process in processes:
            assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


def statuses(processes: Sequence[Process]) -> list[int]:
    outputs = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [err for _, err in outputs if "Traceback" in err] == []
    return [process.returncode for process in processes]


@pytest.fixture(scope="module")
def alone(catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one process that knows of no other."""
    output = tmp_path_factory.mktemp("alone")
    with started(commands(catalogue, output, 1), [environment(**UNOPTIMISED)]) as processes:
        assert statuses(processes) == [0]
    return output


def timeless(index: dict[str, Any]) -> dict[str, Any]:
    """What must be the same in every index of the same catalogue."""
    jobs = [{name: value for name, value in job.items() if name != "seconds"} for job in index["jobs"]]
    return index | {"jobs": jobs}


def test_two_processes_make_what_one_makes(catalogue: Path, alone: Path, tmp_path: Path) -> None:
    with started(commands(catalogue, tmp_path, 2), [environment(**UNOPTIMISED)] * 2) as processes:
        assert statuses(processes) == [0, 0]
    made = pictures(tmp_path)
    assert len(made) == JOBS
    assert made == pictures(alone)
    first, second = journals(tmp_path)
    assert sorted(first + second) == sorted(made)
    assert min(len(first), len(second)) > 0
    one, two = (timeless(json.loads((output / "index.json").read_text())) for output in (alone, tmp_path))
    assert one == two


def test_what_a_lost_process_left_is_done_once(catalogue: Path, alone: Path, tmp_path: Path) -> None:
    broken, again = tmp_path / "killed", (tmp_path / "by 1", tmp_path / "by 2")
    environments = [environment(**UNOPTIMISED), environment(**UNOPTIMISED, HELD_AFTER="1")]
    with started(commands(catalogue, broken, 2), environments) as (first, victim):
        journal = broken / "journal-1.jsonl"
        wait_until(lambda: journal.exists() and journal.read_bytes().endswith(b"\n"), [first, victim])
        victim.kill()
        assert statuses([first])[0] != 0
    before = Counter(file for journal in journals(broken) for file in journal)
    assert 0 < before.total() < JOBS
    assert not (broken / "index.json").exists()

    for output in again:
        shutil.copytree(broken, output)
    lines = commands(catalogue, again[0], 1) + commands(catalogue, again[1], 2)
    with started(lines, [environment(**UNOPTIMISED)] * 3) as processes:
        assert statuses(processes) == [0, 0, 0]
    for output in again:
        done = Counter(file for journal in journals(output) for file in journal)
        assert done >= before
        assert sorted(done.elements()) == sorted(pictures(alone))
        assert pictures(output) == pictures(alone)
