"""The step of neural-style-pt with features laid out channels last; on GPUs matrix products in tf32 as well."""

from benchmarks.networks import ImageArray
from benchmarks.peers.settings import Settings, Step, make_run
from benchmarks.peers.torch_step import Flavour, prepare_flavour


def prepare(content: ImageArray, style: ImageArray, settings: Settings) -> Step:
    return prepare_flavour(content, style, settings, Flavour(channels_last=True, tf32=True))


run = make_run(prepare)
