"""`jax.jit` with the compiler's options that suit the device, and the cache of compiled programs on disk."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.core import Tracer

from jnst.errors import ResourceError

OPTIONS: dict[str, dict[str, str]] = {"cpu": {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}}
"""XLA's options by platform. On CPUs it may order operations so that least memory is needed: a fifth to a third less
for a step, at the same speed."""


class DeviceJit:
    """A function compiled for the device that its first argument is on, with that platform's `OPTIONS`.

    Args:
        function: What is compiled.
        **settings: As of `jax.jit`.
    """

    def __init__(self, function: Callable[..., Any], **settings: Any):
        functools.update_wrapper(self, function)
        self._function, self._settings, self._compiled = function, settings, {}

    def __call__(self, first: Any, *args: Any, **kwargs: Any) -> Any:
        """Compile for these shapes, unless that was done before, and run; within another program be a part of it."""
        # XLA's options are those of a whole program: JAX refuses them for a part.
        traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((first, args, kwargs)))
        function = self._function if traced else self._on(platform_of(first))
        return function(first, *args, **kwargs)

    def lower(self, first: Any, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        """As of `jax.jit`."""
        return self._on(platform_of(first)).lower(first, *args, **kwargs)

    def _on(self, platform: str) -> Any:
        if platform not in self._compiled:
            self._compiled[platform] = jax.jit(self._function, **self._settings, compiler_options=known(platform))
        return self._compiled[platform]

    def _cache_size(self) -> int:
        return sum(function._cache_size() for function in self._compiled.values())


def platform_of(tree: Any) -> str:
    """Where the first array of ``tree`` is ("cpu", "gpu", "tpu"); for tracers and NumPy's, where one would be put."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer):
            return next(iter(leaf.devices())).platform
    return jax.default_backend()


@functools.cache
def known(platform: str) -> dict[str, str]:
    """The platform's `OPTIONS`, none if its compiler does not know them."""
    options = OPTIONS.get(platform, {})
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options


def keep_programs(folder: Path) -> None:
    """Keep compiled programs in ``folder`` and take them from there, in this process and later ones.

    A first step then begins in seconds the second time. The folder is made private (mode 0700): a program that somebody
    else put there would be run.

    Raises:
        ResourceError: The folder cannot be made, or others can write into it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise ResourceError(f"cannot keep compiled programs in '{folder}': {error.strerror}") from error
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise ResourceError(f"'{folder}' belongs to somebody else or others can write into it: choose another folder")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
