"""Fixtures for all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).resolve().parents[1]


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


@pytest.fixture(scope="module")
def unoptimised() -> Iterator[None]:
    """Compile quickly: for tests none of whose programs runs long enough for optimised code to pay for its making."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
