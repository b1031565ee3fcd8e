"""Fixtures for all tests."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Let all workers, and the commands that tests start, share compiled programs: most are compiled only once."""
    if hasattr(config, "workerinput") or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = tempfile.TemporaryDirectory(prefix="jnst-programs-")
    config.add_cleanup(folder.cleanup)
    os.environ.update(JAX_COMPILATION_CACHE_DIR=folder.name, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0.2")
    jax.config.update("jax_compilation_cache_dir", folder.name)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real weights, pictures and golden values beside the checkout."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        reason = "needs the folder ../shared (weights, pictures, golden values) beside the checkout"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_downloads(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let no test download weights, or find any that were downloaded."""
    os.environ.update(JNST_OFFLINE="1", JNST_CACHE=str(tmp_path_factory.mktemp("cache")))


MOST_MAPS = 20_000
"""Memory maps of a process, of which Linux allows 65,530: every compiled program takes some, and beyond it crashes."""


@pytest.fixture(scope="module", autouse=True)
def few_programs() -> Iterator[None]:
    """Let go of compiled programs between two files, before there are too many."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()


@pytest.fixture(scope="module")
def unoptimised() -> Iterator[None]:
    """Compile quickly: for tests none of whose programs runs long enough for optimised code to pay for its making."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
