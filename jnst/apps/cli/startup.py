"""What the command `jnst` sets up in its process, which it owns: standard streams, and the device."""

import io
import logging
import os
import sys
from pathlib import Path

import jax

from jnst.errors import ArgumentError

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
"""XLA's flag for kernels that are not chosen by timing and do not add in arbitrary order."""
DRIVER = Path("/proc/driver/nvidia/version")
"""Exists if NVIDIA's driver is installed."""
EXTRAS = {"gpu": "cuda", "tpu": "tpu"}
"""The extra of jnst that makes JAX support a device."""


def prepare_streams() -> None:
    """Open closed standard streams (`>&-`) on nothing, and replace characters that a terminal cannot show by "?".

    If they stayed closed, the next file to be opened would get their number, and everything printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # The lowest free number, which is this one.
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def choose_device(name: str, deterministic: bool) -> None:
    """Choose the device of all computations. Call it before the first one.

    Args:
        name: "cpu", "gpu", "tpu", or "auto" for the fastest that JAX finds.
        deterministic: Whether GPUs compute the same bits in every run.

    Raises:
        ArgumentError: JAX finds no such device.
    """
    # `no_accelerator` says in one line that a GPU cannot be used.
    logging.getLogger("jax").setLevel(logging.ERROR)
    if deterministic and name != "cpu":
        flags = os.environ.get("XLA_FLAGS", "").split()
        os.environ["XLA_FLAGS"] = " ".join(dict.fromkeys([*flags, DETERMINISTIC]))
    if name == "auto":
        return
    if name == "cpu":
        jax.config.update("jax_platforms", "cpu")
        return
    try:
        found = jax.devices(name)
    except RuntimeError:
        others = ", ".join(dict.fromkeys(device.platform for device in jax.devices()))
        raise ArgumentError(
            f"--device {name}: JAX finds none, only {others}: {_remedy(name)}, or leave --device out"
        ) from None
    jax.config.update("jax_default_device", found[0])


def no_accelerator() -> str | None:
    """Say why computations run on the CPU; None if they do not, or if the CPU was chosen."""
    if jax.default_backend() != "cpu" or getattr(jax.config, "jax_platforms", None) == "cpu":
        return None
    if DRIVER.exists():
        return f"there is an NVIDIA GPU, but this JAX cannot use it ({_remedy('gpu')})"
    return "no GPU or TPU found"


def _remedy(name: str) -> str:
    return f'for JAX to use one, pip install "jnst[{EXTRAS[name]}]"'
