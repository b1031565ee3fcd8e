"""`jax.jit` with the compiler options that suit the device, and compiled programs kept on disk."""

import functools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import jax
from jax.core import Tracer

from jnst.errors import ResourceError
from jnst.solve.devices import platform_of

OPTIONS: dict[str, dict[str, str | bool]] = {
    "cpu": {
        "xla_cpu_use_fusion_emitters": False,
        "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
        "xla_disable_hlo_passes": "cse_barrier_expander",
    }
}
"""XLA's options by platform. On CPUs they order operations for least memory and keep `jax.lax.optimization_barrier`
(which accelerators keep anyway), without which shared values are duplicated for each use. Together they save two fifths
of the memory of a step, at the same speed. XLA's older emitters compile in half the time of its fusion emitters."""

on_host = jax.transfer_guard("allow")
"""Decorates functions that move arrays between host and devices on purpose, where JAX may be set to forbid it."""

MAX_PROGRAMS = 32
"""How many programs of one function are kept; the least recently used are evicted."""

MIN_SECONDS = 0.05
"""Programs that compile faster are not kept on disk."""


class Jit:
    """`jax.jit` with the `OPTIONS` of the device that the first argument is on.

    Only the most recently used programs are kept. Those of `jax.jit` stay until the process ends, each with megabytes
    of code and hundreds of memory maps, and a process that meets ever new image sizes would run out of both. Within
    another traced function the options do not apply, and the function is simply inlined.

    Args:
        function: The function to compile.
        max_programs: How many programs to keep; None for `MAX_PROGRAMS`.
        **settings: As for `jax.jit`.
    """

    def __init__(self, function: Callable[..., Any], *, max_programs: int | None = None, **settings: Any) -> None:
        functools.update_wrapper(self, function)
        self._function, self._settings, self._max_programs = function, settings, max_programs
        self._programs: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, compiled for arguments of these shapes."""
        if is_traced((args, kwargs)):
            return self._function(*args, **kwargs)
        return self.program(*args, **kwargs)(*args, **kwargs)

    def lower(self, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        """As for `jax.jit`. Once the result is compiled, a call with such arguments uses that program."""
        return self.program(*args, **kwargs).lower(*args, **kwargs)

    def program(self, *args: Any, **kwargs: Any) -> Any:
        """The function under `jax.jit` that a call with such arguments would use, for many calls in a row."""
        leaves, structure = jax.tree.flatten((args, kwargs))
        key = structure, tuple(map(_kind, leaves)), platform_of(args)
        with self._lock:
            if key not in self._programs:
                # JAX keeps what it compiled for as long as the function lives, so every program gets its own.
                own = functools.update_wrapper(functools.partial(self._function), self._function)
                self._programs[key] = jax.jit(own, **self._settings, compiler_options=supported_options(key[-1]))
            self._programs.move_to_end(key)
            while len(self._programs) > (self._max_programs or MAX_PROGRAMS):
                self._programs.popitem(last=False)
            return self._programs[key]

    def _cache_size(self) -> int:
        return sum(program._cache_size() for program in self._programs.values())


def _kind(leaf: Any) -> Hashable:
    """What a program depends on: an array's shape and dtype, a static argument's value."""
    return (leaf.shape, leaf.dtype) if hasattr(leaf, "shape") and hasattr(leaf, "dtype") else leaf


def is_traced(tree: Any) -> bool:
    """Whether a pytree contains tracers, or the caller is itself being traced (without any tracer among its inputs)."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree)):
        return True
    return isinstance(jax.lax.iota("int32", 1), Tracer)


@functools.cache
def supported_options(platform: str) -> dict[str, str | bool]:
    """The platform's `OPTIONS`, or none if its compiler does not know them."""
    options = OPTIONS.get(platform, {})
    if not options:
        return options
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options


def keep_programs(folder: Path) -> None:
    """Keep compiled programs in ``folder``, for this process and later ones: turns on JAX's persistent cache.

    The folder is made private (mode 0700), because a program that somebody else put there would be run.

    Raises:
        ResourceError: The folder cannot be made, or others can write into it.
    """
    make_private(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def make_private(folder: Path) -> None:
    """Make a folder with mode 0700, or check that only its owner can write into it; errors as for `keep_programs`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise ResourceError(f"cannot keep compiled programs in '{folder}': {error.strerror}") from error
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise ResourceError(f"'{folder}' belongs to somebody else or others can write into it: choose another folder")
