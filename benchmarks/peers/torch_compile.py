"""The step of neural-style-pt with loss and gradient compiled by torch.compile, channels last."""

from functools import partial

import torch  # pyright: ignore[reportMissingImports]

from benchmarks.networks import ImageArray
from benchmarks.peers.settings import Settings, Step, Unavailable, make_run
from benchmarks.peers.torch_step import Flavour, prepare_flavour

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def prepare(content: ImageArray, style: ImageArray, settings: Settings, precision: str = "float32") -> Step:
    """As others do, and compile the step.

    Raises:
        Unavailable: torch.compile does not work here: it needs a C++ compiler, on GPUs Triton.
    """
    flavour = Flavour(DTYPES[precision], channels_last=True, compiled=True, tf32=True)
    start = partial(prepare_flavour, content, style, settings, flavour)
    try:
        # What was compiled is found again by the second one, which stands before its first step.
        start().advance()
    except Exception as error:
        raise Unavailable(f"torch.compile fails: {type(error).__name__}: {str(error).partition(chr(10))[0]}") from error
    return start()


run = make_run(prepare)
