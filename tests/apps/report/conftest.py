"""Fixtures for tests of reports."""

from browser import browser

__all__ = ["browser"]
