"""neural-style-pt (ProGamerGov): PyTorch as it comes, float32, channels first, a frozen VGG19."""

from benchmarks.networks import ImageArray
from benchmarks.peers.settings import Settings, Step, make_run
from benchmarks.peers.torch_step import Flavour, prepare_flavour


def prepare(content: ImageArray, style: ImageArray, settings: Settings) -> Step:
    return prepare_flavour(content, style, settings, Flavour())


run = make_run(prepare)
