"""Fixtures for tests of what goes wrong."""

import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_server import FakeServer, serving
from published import NAME, Publish, keras_file, row, torch_file

from jnst.weights import download
from jnst.weights.registry import SOURCES


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """An empty cache, enabled downloads without pauses, and a function that adds a row `NAME` to the registry."""
    monkeypatch.setenv("JNST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JNST_OFFLINE")
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    monkeypatch.setattr("pooch.core.time", types.SimpleNamespace(sleep=lambda seconds: None))
    return lambda source: monkeypatch.setitem(SOURCES, NAME, source)


@pytest.fixture
def server(publish: Publish) -> Iterator[FakeServer]:
    """A server that answers correctly, with two files, the first of them published."""
    with serving({"weights.bin": keras_file(), "model.safetensors": torch_file()}) as server:
        publish(row(f"{server.address}/weights.bin", keras_file()))
        yield server
