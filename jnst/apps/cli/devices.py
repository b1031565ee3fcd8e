"""Which device a command computes on."""

import logging
import os
from pathlib import Path

import jax

from jnst.errors import ArgumentError

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
"""No kernels chosen by timing them, and none that add in whatever order threads come along."""
DRIVER = Path("/proc/driver/nvidia/version")
"""There if NVIDIA's driver is."""
EXTRAS = {"gpu": "cuda", "tpu": "tpu"}
"""What is to be installed with jnst for a device."""


def choose_device(name: str, deterministic: bool) -> None:
    """Have everything computed on a device; to be called before anything is.

    Args:
        name: "cpu", "gpu", "tpu", or "auto" for the fastest that JAX finds.
        deterministic: Have GPUs compute the same bits at every run.

    Raises:
        ArgumentError: JAX finds no such device.
    """
    # That a GPU cannot be used is said by `no_accelerator`, once.
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
    if deterministic and name != "cpu":
        flags = os.environ.get("XLA_FLAGS", "").split()
        os.environ["XLA_FLAGS"] = " ".join([*flags, *(flag for flag in [DETERMINISTIC] if flag not in flags)])
    if name == "auto":
        return
    if name == "cpu":
        jax.config.update("jax_platforms", "cpu")
        return
    try:
        found = jax.devices(name)
    except RuntimeError:
        there = ", ".join(dict.fromkeys(device.platform for device in jax.devices()))
        raise ArgumentError(
            f"--device {name}: JAX finds none, only {there}: {_remedy(name)}, or leave --device out"
        ) from None
    jax.config.update("jax_default_device", found[0])


def no_accelerator() -> str | None:
    """Why programs run on the CPU, to be said; None if they do not, or were asked to."""
    if jax.default_backend() != "cpu" or getattr(jax.config, "jax_platforms", None) == "cpu":
        return None
    if DRIVER.exists():
        return f"there is an NVIDIA GPU, but this JAX cannot use it ({_remedy('gpu')})"
    return "no GPU or TPU found"


def _remedy(name: str) -> str:
    return f'pip install "jnst[{EXTRAS[name]}]" lets JAX use one that is there'
