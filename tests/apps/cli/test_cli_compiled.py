"""`--precision`, `--keep-programs` and `--offline`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_runs import run, save_images

import jnst
from jnst.backbones.kernels import algorithms

pytestmark = pytest.mark.usefixtures("unoptimised")


def test_precision_changes_the_losses_slightly(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(algorithms, "MIN_FLOPS", 0)
    content, style = save_images(tmp_path)
    first = {}
    for precision in ("float32", "bfloat16"):
        log, out = tmp_path / f"{precision}.jsonl", tmp_path / f"{precision}.png"
        flags = ("--precision", precision, "--size", 32, "--no-pyramid", "--steps", 1, "--log", log)
        assert run(capsys, "stylize", content, style, "-o", out, *flags).status == 0
        first[precision] = json.loads(log.read_text().splitlines()[0])["total"]
    assert first["bfloat16"] == pytest.approx(first["float32"], rel=2e-2)
    assert first["bfloat16"] != first["float32"]
    finished = run(capsys, "stylize", content, style, "-o", tmp_path / "out.png", "--precision", "half")
    assert finished.status == 2
    assert "--precision" in finished.only_error()


def test_programs_are_kept_in_the_private_cache_and_change_nothing(tmp_path: Path) -> None:
    content, style = save_images(tmp_path)
    script = "import sys; from jnst.apps.cli import main; sys.exit(main())"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")}
    environment |= {"JNST_CACHE": str(tmp_path / "cache")}
    flags = ("--size", "32", "--no-pyramid", "--steps", "2", "--keep-programs")
    for name in ("first.png", "second.png"):
        command = [sys.executable, "-c", script, "stylize", content, style, "-o", tmp_path / name, *flags]
        subprocess.run(command, env=environment, check=True, capture_output=True)
    kept = tmp_path / "cache" / "programs"
    assert kept.stat().st_mode & 0o777 == 0o700
    assert any(kept.iterdir())
    first, second = (np.asarray(jnst.load_image(tmp_path / name)) for name in ("first.png", "second.png"))
    np.testing.assert_array_equal(first, second)


def test_offline_names_the_missing_weights(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JNST_OFFLINE")
    monkeypatch.setenv("JNST_CACHE", str(tmp_path))
    content, style = save_images(tmp_path)
    finished = run(capsys, "stylize", content, style, "-o", tmp_path / "out.png", "--backbone", "vgg19", "--offline")
    assert finished.status == 4
    assert "offline" in finished.only_error().lower()
    assert "vgg19" in finished.only_error()
