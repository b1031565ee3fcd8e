"""`jax.jit` with the compiler's options that suit the device, and the cache of compiled programs on disk."""

import contextlib
import ctypes
import functools
import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import jax
from jax.core import Tracer

from jnst.errors import ResourceError

OPTIONS: dict[str, dict[str, str]] = {
    "cpu": {
        "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
        "xla_disable_hlo_passes": "cse_barrier_expander",
    }
}
"""XLA's options by platform. On CPUs it may order operations so that least memory is needed, and leaves
`jax.lax.optimization_barrier` in place (as on accelerators), without which results that many operations use are
computed and kept once for each: together two fifths of the memory of a step, at the same speed."""

MOST_PROGRAMS = 32
"""How many programs of one function are kept: those for the shapes that were seen last."""
DROPPED_BETWEEN = 32
"""After how many programs that were dropped traces are forgotten too."""


class DeviceJit:
    """A function compiled for the device that its first argument is on, with that platform's `OPTIONS`.

    Like `jax.jit`, but only the programs used last are kept. Those of `jax.jit` stay until the process ends, some
    megabytes and hundreds of memory maps each: a process that meets ever new shapes would come to its end by them.

    Args:
        function: What is compiled.
        most: How many programs are kept; None: `MOST_PROGRAMS`.
        **settings: As of `jax.jit`.
    """

    def __init__(self, function: Callable[..., Any], *, most: int | None = None, **settings: Any):
        functools.update_wrapper(self, function)
        self._function, self._settings, self._most = function, settings, most
        self._compiled: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, first: Any, *args: Any, **kwargs: Any) -> Any:
        """Compile for these shapes, unless that was done before, and run; within another program be a part of it."""
        leaves, structure = jax.tree.flatten(((first, *args), kwargs))
        # XLA's options are those of a whole program: JAX refuses them for a part.
        if any(isinstance(leaf, Tracer) for leaf in leaves) or _tracing():
            return self._function(first, *args, **kwargs)
        program = self._program(first, leaves, structure)
        if not program._cache_size():
            program.lower(first, *args, **kwargs).compile()
            _give_back()
        return program(first, *args, **kwargs)

    def lower(self, first: Any, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        """As of `jax.jit`; a call with such arguments then takes the program that was compiled from it."""
        leaves, structure = jax.tree.flatten(((first, *args), kwargs))
        return self._program(first, leaves, structure).lower(first, *args, **kwargs)

    def _program(self, first: Any, leaves: list[Any], structure: Any) -> Any:
        """The compiled function for arguments like these; what was not used for longest leaves."""
        key = structure, tuple(_kind(leaf) for leaf in leaves), platform_of(first)
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = self._jitted(key[-1])
            self._compiled.move_to_end(key)
            while len(self._compiled) > (self._most or MOST_PROGRAMS):
                self._compiled.popitem(last=False)
                _forget_traces()
            return self._compiled[key]

    def _jitted(self, platform: str) -> Any:
        # JAX keeps what it traces and compiles for as long as the function lives: a new one for every program.
        own = functools.update_wrapper(functools.partial(self._function), self._function)
        return jax.jit(own, **self._settings, compiler_options=known(platform))

    def _cache_size(self) -> int:
        return sum(function._cache_size() for function in self._compiled.values())


def _tracing() -> bool:
    """Whether a program is being traced: what has no arguments becomes a part of it too."""
    return isinstance(jax.lax.iota("int32", 1), Tracer)


def _kind(leaf: Any) -> Hashable:
    """What a program is compiled for: shape and dtype of arrays, the value of what is static."""
    return (leaf.shape, leaf.dtype) if hasattr(leaf, "shape") and hasattr(leaf, "dtype") else leaf


def _give_back() -> None:
    """Return what the compiler has freed to the system, before the program needs as much: glibc keeps it."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


_dropped = itertools.count(1)


def _forget_traces() -> None:
    """Now and then, let JAX forget how functions were traced for shapes that are gone: it never does by itself.

    Functions that other code compiled stay so, unlike with `jax.clear_caches`; single operations compile again.
    """
    if next(_dropped) % DROPPED_BETWEEN == 0:
        with contextlib.suppress(ImportError, AttributeError):
            from jax._src.util import clear_all_caches

            clear_all_caches()


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
