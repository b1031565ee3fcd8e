"""Fixtures for all tests."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
from jax._src import compiler

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Let all workers, and the commands that tests start, share compiled programs: most are compiled only once.

    And let pytest-xdist keep to the order of `LONGEST`: by itself it begins with the files that have the most tests.
    And let commands hear a Ctrl-C: shells start background jobs, and those their children, with it ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
    if hasattr(config, "workerinput") or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = tempfile.TemporaryDirectory(prefix="jnst-programs-")
    config.add_cleanup(folder.cleanup)
    os.environ.update(JAX_COMPILATION_CACHE_DIR=folder.name, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0.2")
    jax.config.update("jax_compilation_cache_dir", folder.name)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


LONGEST = (
    "test_golden_curves.py",
    "test_readme.py",
    "losses/test_losses_contracts.py",
    "experiments/test_experiments.py",
    "backbones/test_remat.py",
    "batches/test_devices.py",
    "test_cli.py",
    "losses/test_distributions.py",
    "backbones/test_formulations.py",
    "batches/test_stylize_many.py",
)
"""Files that take longest, which workers begin with: none of them is alone at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with `LONGEST`, in that order."""
    place = {ROOT / "tests" / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real weights, images and golden values beside the checkout."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        reason = "needs the folder ../shared (weights, images, golden values) beside the checkout"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_downloads(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let no test download weights, or find any that were downloaded."""
    os.environ.update(JNST_OFFLINE="1", JNST_CACHE=str(tmp_path_factory.mktemp("cache")))


MOST_MAPS = 20_000
"""Memory maps of a process, of which Linux allows 65,530: every compiled program takes some, and beyond it crashes."""


@pytest.fixture(scope="module", autouse=True)
def few_programs() -> Iterator[None]:
    """Let go of compiled programs between two files, before there are too many."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()


QUICK = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
"""Flags of XLA with which small programs are compiled soonest."""


@pytest.fixture(scope="module")
def unoptimised() -> Iterator[None]:
    """Compile quickly: for tests none of whose programs runs long enough for optimised code to pay for its making.

    XLA:CPU's older emitters make a program in a quarter of the time that its newer ones take, and small programs are
    sooner made in one part. Both are chosen where JAX puts its own flags, which no public function reaches for
    operations that run one by one. Processes that are started meanwhile compile in the same way, and to the same bits.
    """
    usual = compiler.get_compile_options

    def quick(*args: Any, **kwargs: Any) -> Any:
        options = usual(*args, **kwargs)
        options.env_option_overrides = [*options.env_option_overrides, *QUICK.items()]
        return options

    # XLA reads its flags once: here as they are, before they become those of other processes.
    jax.devices()
    flags = " ".join([os.environ.get("XLA_FLAGS", ""), *(f"--{name}={value}" for name, value in QUICK.items())])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "get_compile_options", quick)
        patch.setenv("XLA_FLAGS", flags)
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        jax.config.update("jax_disable_most_optimizations", True)
        yield
    jax.config.update("jax_disable_most_optimizations", False)
