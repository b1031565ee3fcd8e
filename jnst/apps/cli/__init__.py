"""The command `jnst`: `jnst demo`, `stylize`, `grid`, `presets`, `weights`, `train` and others."""

from jnst.apps.cli.main import main

__all__ = ["main"]
