"""Runs that are killed and interrupted, a few times each. The scripts can do it more often."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def script(name: str, *words: str) -> dict[str, Any]:
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    finished = subprocess.run(
        [sys.executable, str(HERE / name), *words],
        capture_output=True,
        text=True,
        timeout=600,
        env={**environment, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)]), "JNST_OFFLINE": "1"},
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_killed_runs_continue_to_the_same_bits() -> None:
    result = script("kills.py", "--runs", "5", "--writes", "5")
    for part in ("at random", "writing run.ckpt", "writing out.png"):
        assert result[part]["faults"] == []
        assert result[part]["kills"] == 5
        assert result[part]["results compared"] > 0
    for name in ("run.ckpt", "out.png"):
        assert result[f"writing {name}"]["while"].get(name, 0) > 0


@pytest.mark.long
def test_interrupted_runs_save_their_image_and_continue_to_the_same_bits() -> None:
    result = script("interrupts.py", "--rounds", "5", "--short")
    assert result["faults"] == []
    assert result["interruptions"] == 5
    assert result["results compared"] > 0
