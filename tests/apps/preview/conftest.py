"""Fixtures for tests of the page that shows a run."""

from collections.abc import Iterator

import pytest
from browser import browser

from jnst.apps.preview import Preview, serve

__all__ = ["browser"]


@pytest.fixture
def preview(monkeypatch) -> Iterator[Preview]:
    """A page of the run "out.png" that ends at once."""
    monkeypatch.setattr("jnst.apps.preview.serving.LINGER", 0.0)
    monkeypatch.setattr("jnst.apps.preview.serving.WAKE", 0.01)
    with serve(title="out.png") as preview:
        yield preview
