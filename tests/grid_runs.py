"""Small catalogues, and `jnst grid` on them inside the test process."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_runs import Finished, run
from small_images import save

QUICK = ("--size", "24", "--steps", "2", "--optimizer", "adam")
QUICK += ("--content-layers", "relu1_1", "--style-layers", "relu1_1,relu2_1")
"""The same for all tests, so that programs are compiled once."""
NAMES = [f"{content}__{style}.png" for content in "abc" for style in "xy"]
"""The images of a catalogue of the inputs of `save_inputs`, in order."""


def save_inputs(folder: Path) -> None:
    """Three contents and two styles."""
    for seed, name in enumerate("abc"):
        save(folder / "contents" / f"{name}.png", seed)
    for seed, name in enumerate("xy"):
        save(folder / "styles" / f"{name}.png", 10 + seed)


def grid(capsys: pytest.CaptureFixture[str], folder: Path, *flags: object) -> Finished:
    """Run `jnst grid` on a folder filled by `save_inputs`."""
    inputs = ("--contents", folder / "contents", "--styles", folder / "styles")
    return run(capsys, "grid", *inputs, "-o", folder / "out", *QUICK, *flags)


def images(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "out").glob("*.png"))}


def made(folder: Path) -> list[str]:
    """The files that were made, in order, over all runs; "broken" for a line that is not a record."""
    path = folder / "out" / "journal.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["file"] if line.endswith("}") else "broken" for line in lines]


def index_of(folder: Path, name: str = "out") -> dict[str, Any]:
    return json.loads((folder / name / "index.json").read_text())
