"""Fixtures for tests of the preview page."""

from collections.abc import Iterator

import pytest
from browser import browser

from jnst.apps.preview import Preview, serve

__all__ = ["browser"]


@pytest.fixture
def preview(monkeypatch) -> Iterator[Preview]:
    """The page of a run called "out.png", whose server stops at once."""
    monkeypatch.setattr("jnst.apps.preview.server.LINGER", 0.0)
    monkeypatch.setattr("jnst.apps.preview.server.SHUTDOWN_POLL", 0.01)
    with serve(title="out.png") as preview:
        yield preview
