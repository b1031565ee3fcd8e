"""A finished catalogue, and copies of it to change."""

import shutil
from pathlib import Path

import pytest
from grid_runs import QUICK, save_inputs

from jnst.apps.cli import main


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, unoptimised: None) -> Path:
    """Three contents, two styles, and the finished catalogue in "out"."""
    folder = tmp_path_factory.mktemp("whole")
    save_inputs(folder)
    flags = ("--contents", folder / "contents", "--styles", folder / "styles", "-o", folder / "out", *QUICK)
    assert main(["grid", *map(str, flags)]) == 0
    return folder


@pytest.fixture
def again(whole: Path, tmp_path: Path) -> Path:
    """A copy of the finished catalogue, to change."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path
