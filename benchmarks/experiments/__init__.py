"""The experiments that five student projects describe, each run by one short script over jnst's public functions."""
