"""The command line: `jnst stylize`, `jnst presets`, `jnst backbones`, `jnst weights`."""

from jnst.cli.main import main

__all__ = ["main"]
