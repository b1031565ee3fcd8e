"""Fixtures for tests of what goes wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from liar import Liar, serving
from published import HASTY, NAME, Publish, keras_file, row, torch_file

from jnst.weights import store
from jnst.weights.registry import SOURCES


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """An empty cache, the network allowed, and a function that puts a row named `NAME` into the registry."""
    monkeypatch.setenv("JNST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JNST_OFFLINE")
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)
    monkeypatch.setattr(store, "TRANSPORT", HASTY)
    return lambda source: monkeypatch.setitem(SOURCES, NAME, source)


@pytest.fixture
def server(publish: Publish) -> Iterator[Liar]:
    """An honest server with two files, the first of them published."""
    with serving({"weights.bin": keras_file(), "model.safetensors": torch_file()}) as server:
        publish(row(f"{server.address}/weights.bin", keras_file()))
        yield server
