"""States whose arrays are divided among several processes: each writes its own part, and any number can go on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from checkpoint_runs import make, same_bits

import jnst

MEMBER = Path(__file__).with_name("checkpoint_member.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left: a state saved by one alone, and twice by both, each with half of the picture's rows."""
    folder = tmp_path_factory.mktemp("divided")
    jax.config.update("jax_disable_most_optimizations", True)
    jnst.save_state(folder / "begun", make("adam", callback=lambda report: report.first == 4).state)
    jax.config.update("jax_disable_most_optimizations", False)
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(MEMBER), str(rank), str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, said = process.communicate(timeout=200)
            assert process.returncode == 0, said
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return folder


def test_each_process_reads_the_whole(folder: Path) -> None:
    begun = jnst.load_state(folder / "begun")
    for rank in range(2):
        found = json.loads((folder / f"read-{rank}.json").read_text())
        assert found["about"] == {"number": 2}
        assert found["same"] == dict.fromkeys(begun.leaves, True)


@pytest.mark.usefixtures("unoptimised")
def test_one_process_goes_on_from_what_two_have_written(folder: Path) -> None:
    state = jnst.load_state(folder / "state")
    assert state.about == {"number": 2}
    assert np.array_equal(state.records["losses"], [1.0, 2.0])
    whole = make("adam")
    rest = make("adam", state=state)
    assert same_bits(rest.state, whole.state)


def test_a_damaged_folder_is_replaced_by_the_one_before(folder: Path) -> None:
    largest = max((folder / "state").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.warns(UserWarning, match=r"state' cannot be read .*checksums.*; continuing from the one before"):
        found = jnst.load_state(folder / "state")
    assert found.about == {"number": 1}
    begun = jnst.load_state(folder / "begun")
    assert same_bits(dict(found.leaves), dict(begun.leaves))
    assert sorted(path.name for path in folder.glob("*state*")) == ["state", "state.previous"]
