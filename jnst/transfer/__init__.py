"""Style transfer from images to images: `stylize` and its relatives, thin layers over `jnst.solve`."""

from jnst.transfer.api import reconstruct, stylize, stylize_batch, stylize_grid, sweep, synthesize
from jnst.transfer.multiscale import Callback, Report
from jnst.transfer.stages import Compiling, OnCompile

__all__ = [
    "Callback",
    "Compiling",
    "OnCompile",
    "Report",
    "reconstruct",
    "stylize",
    "stylize_batch",
    "stylize_grid",
    "sweep",
    "synthesize",
]
