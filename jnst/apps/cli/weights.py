"""`jnst weights`: fetching published weights, looking into weights files, and converting them to our own format."""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from jnst.apps.cli.arguments import Text
from jnst.backbones import Preprocessing
from jnst.errors import ArgumentError, WeightsError
from jnst.weights import read_weights, save_weights
from jnst.weights.registry import HEADS, SOURCES, find_source
from jnst.weights.store import cached, fetch, hash_of, size_of, verify

Name = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]


@dataclasses.dataclass(frozen=True)
class List:
    """List published weights: size, licence, preprocessing, address and hash, and which are in the cache."""

    def run(self) -> int:
        """Print two lines for each."""
        rows = {**SOURCES, **HEADS}
        width = max(map(len, rows))
        for row, source in rows.items():
            place = cached(row) or "not in the cache"
            facts = f"{size_of(source)}, {source.licence}, fed {_in_words(source.preprocessing)}"
            print(f"{row:<{width}}  {facts}; {place}")
            print(f"{'':<{width}}  {source.address}, {hash_of(source)}")
        return 0


def _in_words(preprocessing: Preprocessing) -> str:
    """As "BGR 0-255 minus 104 117 124"."""
    words = [f"{preprocessing.channel_order.upper()} 0-{preprocessing.scale:g}"]
    for word, values, neutral in (("minus", preprocessing.mean, 0.0), ("over", preprocessing.std, 1.0)):
        if set(values) != {neutral}:
            words += [word, *(f"{value:g}" for value in values)]
    return " ".join(words)


@dataclasses.dataclass(frozen=True)
class Fetch:
    """Download published weights into the cache (JNST_CACHE, or ~/.cache/jnst), and print the path."""

    name: Name
    """A name that `jnst weights list` shows, or a network's, for the first of its."""
    offline: bool = False
    """Do not touch the network (also: JNST_OFFLINE=1)."""
    force: bool = False
    """Download again."""
    whole: bool = False
    """Download the whole file and check its documented hash, where the tensors in use would do."""

    def run(self) -> int:
        """Download what is not there yet."""
        print(fetch(self.name, offline=self.offline or None, force=self.force, whole=self.whole))
        return 0


@dataclasses.dataclass(frozen=True)
class Where:
    """Print the path of published weights that are in the cache; touch no network."""

    name: Name
    """A name that `jnst weights list` shows, or a network's, for the first of its."""

    def run(self) -> int:
        """Print the path, or fail."""
        path = cached(self.name)
        if path is None:
            row = find_source(self.name)
            raise WeightsError(f"{row} is not in the cache: jnst weights fetch {row} downloads it")
        print(path)
        return 0


@dataclasses.dataclass(frozen=True)
class Verify:
    """Read every cached file, and compare it with the hash recorded when it was made."""

    def run(self) -> int:
        """Print a line for each; fail if one is damaged."""
        verdicts = verify()
        for verdict in verdicts:
            print(f"{verdict.name}  {verdict.fault or 'sound'}  {verdict.path}")
        if not verdicts:
            print("nothing is in the cache")
        damaged = [verdict.name for verdict in verdicts if verdict.fault]
        if damaged:
            raise WeightsError(
                f"{', '.join(damaged)} in the cache not as recorded: jnst weights fetch NAME --force gets each again"
            )
        return 0


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
            raise ArgumentError(f"{self.destination} exists: choose another name, or --force to write over it")
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
    """Fetch published weights. Look into weights files, or convert them."""

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
