"""`--precision` and `--offline`."""

import json
from pathlib import Path

import pytest
from cli_runs import run, save_images

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
