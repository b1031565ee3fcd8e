"""Compiled programs kept between commands, in a private folder of limited size."""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from jnst.errors import JnstError
from jnst.solve.compilation import OPTIONS, keep_programs, make_private
from jnst.transfer.stages import is_compiling
from jnst.weights.cache import root

MAX_BYTES = 1_000_000_000
"""The most that all programs together take; the least recently used are evicted."""

STALE_SECONDS = 86400.0
"""The age at which what a killed command left behind is removed."""

AUTOTUNING = "xla_gpu_per_fusion_autotune_cache_dir"
"""XLA's option for the folder where the results of autotuning on GPUs are kept, and the name of the folder."""


@contextlib.contextmanager
def kept_programs() -> Iterator[None]:
    """Let JAX find the programs of earlier commands, and keep those of this one.

    JAX writes programs into a folder of this process alone, where earlier ones are linked. At the end they are moved
    into the common folder by renaming, so that commands that run at once, or are killed, leave no incomplete file.
    Without a usable folder, a line says so, and nothing is kept. A user's own ``JAX_COMPILATION_CACHE_DIR`` takes
    precedence.
    """
    if jax_cache():
        yield
        return
    try:
        shared, own = _open()
    except (JnstError, OSError) as error:
        print(f"jnst: compiled programs are not kept: {error}", file=sys.stderr)
        yield
        return
    show = warnings.showwarning
    warnings.showwarning = _noticing(show, own)
    try:
        yield
    finally:
        warnings.showwarning = show
        jax.config.update("jax_compilation_cache_dir", None)
        with contextlib.suppress(OSError):
            # What still compiles may be half written.
            for path in () if is_compiling() else _programs(own):
                if path.stat().st_nlink == 1:
                    path.replace(shared / path.name)
        shutil.rmtree(own, ignore_errors=True)


def jax_cache() -> str | None:
    """The folder of JAX's own cache, if the user chose one."""
    return jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]


def _open() -> tuple[Path, Path]:
    """Make the common folder, and one of this process with links to the programs that there are."""
    root().parent.mkdir(parents=True, exist_ok=True)
    root().mkdir(mode=0o700, exist_ok=True)
    folder = root() / "programs"
    shared = folder / _machine()
    own = shared / f"run-{os.getpid()}-{time.time_ns()}"
    make_private(folder)
    make_private(shared)
    make_private(shared / AUTOTUNING)
    make_private(own)
    try:
        _evict(folder)
        for path in _programs(shared):
            _link(path, own / path.name)
        keep_programs(own)
    except OSError:
        shutil.rmtree(own, ignore_errors=True)
        raise
    # JAX would choose a folder in that of this process, whose path would become part of every program's key.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    OPTIONS.setdefault("gpu", {})[AUTOTUNING] = str(shared / AUTOTUNING)
    return shared, own


def _link(path: Path, link: Path) -> None:
    try:
        os.link(path, link)
    except FileNotFoundError:  # evicted by another command
        return
    except OSError:  # a file system without hard links
        shutil.copyfile(path, link)


def _machine() -> str:
    """A name for what programs are compiled by and for, because JAX's own key ignores the processor's instructions."""
    processor = platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        processor = next((line for line in file if line.startswith(("flags", "Features"))), processor)
    known = (jax.__version__, importlib.metadata.version("jaxlib"), platform.machine(), processor, os.cpu_count())
    return hashlib.sha256(repr(known).encode()).hexdigest()[:16]


def _programs(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()]


def _evict(folder: Path) -> None:
    """Remove the least recently used programs beyond `MAX_BYTES`, and what killed commands left behind."""
    for path in folder.glob("*/run-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
    found = list[tuple[float, int, Path]]()
    for path in folder.glob("*/*"):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if path.is_file():
                found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    total = 0
    for _, size, path in sorted(found, reverse=True):
        total += size
        if total > MAX_BYTES:
            path.unlink(missing_ok=True)


def _noticing(show: Any, own: Path) -> Any:
    """Warn in one line of damaged programs, or of those that could not be written, and forget them."""
    warned = False

    def showwarning(message: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal warned
        text = str(message)
        if "persistent compilation cache entry" not in text:
            show(message, *args, **kwargs)
            return
        name = text.partition("'")[2].partition("'")[0]
        for folder in (own, own.parent):  # JAX would not replace it, nor keep what compiles quickly this time
            for path in folder.glob(f"{name}-*"):
                path.unlink(missing_ok=True)
        if not warned:
            print(f"jnst: a compiled program could not be kept or read ({text.partition(': ')[2]})", file=sys.stderr)
        warned = True

    return showwarning
