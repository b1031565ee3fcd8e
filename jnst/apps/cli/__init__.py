"""The command line: `jnst demo`, `stylize`, `grid`, `presets`, `backbones`, `weights`, `train` and others."""

from jnst.apps.cli.main import main

__all__ = ["main"]
