"""`jnst weights`: looking into weights files, and converting them to our own format."""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from jnst.cli.arguments import Text
from jnst.errors import JnstError
from jnst.weights import read_weights, save_weights


@dataclasses.dataclass(frozen=True)
class Convert:
    """Convert a weights file of any known format to a safetensors file that says what it holds."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")]
    """A TensorFlow.js model.json, Keras or flaxmodels .h5, torch .pth, .safetensors or .npz."""
    destination: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DST")]
    """The .safetensors file to write."""
    backbone: Text = None
    """The architecture, where the file fits several."""
    half: bool = False
    """Store float16: half the size, three significant digits."""
    force: bool = False
    """Write over an existing file."""

    def run(self) -> int:
        """Convert, and say what was written."""
        if self.destination.exists() and not self.force:
            raise JnstError(f"{self.destination} exists: choose another name, or --force to write over it")
        weights = read_weights(self.source, self.backbone)
        save_weights(self.destination, weights, dtype="float16" if self.half else "float32")
        print(f"{self.destination}: {weights.architecture}, {weights.training}, {len(weights.params)} tensors")
        return 0


@dataclasses.dataclass(frozen=True)
class Show:
    """Say what a weights file holds."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """A weights file of any known format."""
    backbone: Text = None
    """The architecture, where the file fits several."""

    def run(self) -> int:
        """Print what is known of the file, then each tensor."""
        weights = read_weights(self.file, self.backbone)
        about = {
            "architecture": weights.architecture,
            "training": weights.training,
            "source": weights.source,
            "licence": weights.licence,
            "preprocessing": weights.preprocessing.to_json(),
            "options": ", ".join(f"{name}={value}" for name, value in weights.options.items()) or "none",
            "parameters": f"{sum(array.size for array in weights.params.values()):,}",
        }
        for name, value in about.items():
            print(f"{name:<14}{value}")
        width = max(map(len, weights.params))
        for name, array in weights.params.items():
            shape = "x".join(map(str, array.shape))
            print(f"{name:<{width}}  {shape:<14} mean {np.mean(array):+.3e}  std {np.std(array):.3e}")
        return 0


@dataclasses.dataclass(frozen=True)
class Weights:
    """Look into weights files, or convert them."""

    command: Annotated[Convert, tyro.conf.subcommand("convert")] | Annotated[Show, tyro.conf.subcommand("show")]

    def run(self) -> int:
        """Run the command."""
        return self.command.run()
