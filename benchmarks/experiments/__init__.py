"""Experiments that five student projects describe. Each is a short script that uses jnst's public functions."""
