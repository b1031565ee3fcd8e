"""The step of neural-style-pt with network and Gram matrices in bfloat16, channels last; the image stays float32."""

import torch  # pyright: ignore[reportMissingImports]

from benchmarks.networks import ImageArray
from benchmarks.peers.settings import Settings, Step, make_run
from benchmarks.peers.torch_step import Flavour, prepare_flavour


def prepare(content: ImageArray, style: ImageArray, settings: Settings) -> Step:
    return prepare_flavour(content, style, settings, Flavour(torch.bfloat16, channels_last=True))


run = make_run(prepare)
