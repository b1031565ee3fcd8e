"""`--device` and `--deterministic`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from cli_runs import run, save_images

import jnst
from jnst.apps.cli import startup
from jnst.apps.cli.startup import DETERMINISTIC, choose_device, no_accelerator

pytestmark = pytest.mark.skipif(jax.default_backend() != "cpu", reason="for machines without an accelerator")


@pytest.fixture(autouse=True)
def restore_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
    platforms = getattr(jax.config, "jax_platforms", None)
    yield
    jax.config.update("jax_platforms", platforms)


@pytest.mark.parametrize("name", ["gpu", "tpu"])
def test_a_device_that_does_not_exist(capsys, tmp_path, name):
    content, style = save_images(tmp_path)
    finished = run(capsys, "stylize", content, style, "-o", tmp_path / "out.png", "--device", name)
    assert finished.status == 2
    message = finished.only_error()
    assert all(word in message for word in (f"--device {name}", "only cpu", "pip install", "leave --device out"))
    assert not (tmp_path / "out.png").exists()


def test_an_unknown_device(capsys, tmp_path):
    finished = run(capsys, "stylize", *save_images(tmp_path), "-o", tmp_path / "out.png", "--device", "cuda")
    assert finished.status == 2
    assert all(word in finished.only_error() for word in ("cuda", "auto", "cpu", "gpu", "tpu"))


def test_a_missing_accelerator_is_reported_unless_the_cpu_was_chosen(monkeypatch):
    jax.config.update("jax_platforms", None)
    assert no_accelerator() == "no GPU or TPU found"
    choose_device("auto", deterministic=False)
    assert no_accelerator() is not None
    monkeypatch.setattr(startup, "DRIVER", Path(__file__))
    assert "jnst[cuda]" in (no_accelerator() or "")
    choose_device("cpu", deterministic=False)
    assert no_accelerator() is None


def test_deterministic_adds_one_xla_flag_and_keeps_others(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    for _ in range(2):
        choose_device("auto", deterministic=True)
    assert os.environ["XLA_FLAGS"].split() == ["--xla_force_host_platform_device_count=1", DETERMINISTIC]


def test_xla_knows_the_flag():
    """XLA ends the process if it does not know a flag."""
    environment = os.environ | {"XLA_FLAGS": DETERMINISTIC, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", "import jax; print(jax.jit(lambda x: x + 1)(1))"]
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "2\n"


def test_a_command_runs_on_the_cpu(capsys, tmp_path):
    _, style = save_images(tmp_path)
    flags = ("--style-layers", "relu1_1", "--size", "32", "--steps", "0", "--device", "cpu", "--deterministic")
    finished = run(capsys, "synthesize", style, "-o", tmp_path / "out.png", *flags)
    assert finished.status == 0
    assert not any("no GPU" in line for line in finished.err)
    assert jnst.load_image(tmp_path / "out.png").shape == (24, 32, 3)
