"""Minimise a loss."""
