"""The command line: `jnst demo`, `jnst stylize`, `jnst presets`, `jnst backbones`, `jnst weights`, `jnst train`."""

from jnst.cli.main import main

__all__ = ["main"]
