"""Everything public works under the strict settings that JAX offers, set globally or in a block."""

import subprocess
import sys
from pathlib import Path

import jax
import pytest

import jnst
from jnst.weights.formats import read_tensors

SCRIPT = Path(__file__).with_name("strict_surface.py")
EXPLICIT = ("jax_numpy_rank_promotion=raise", "jax_numpy_dtype_promotion=strict")
CHECKED = ("jax_debug_nans=True", "jax_debug_infs=True", "jax_check_tracer_leaks=True")
ELSEWHERE = ("jax_transfer_guard=disallow", "jax_enable_x64=True")


@pytest.mark.parametrize(
    ("where", "settings"),
    [
        pytest.param("global", (*EXPLICIT, *CHECKED, *ELSEWHERE), marks=pytest.mark.long),
        ("block", (*EXPLICIT, *ELSEWHERE)),
    ],
)
def test_the_whole_public_surface(where: str, settings: tuple[str, ...]) -> None:
    ended = subprocess.run([sys.executable, SCRIPT, where, *settings], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    *failed, last = ended.stdout.splitlines()
    assert not failed, "\n".join(failed)
    assert int(last.partition(" ")[0]) >= 5


def test_errors_of_our_own_are_not_blamed_on_the_file() -> None:
    path = Path(jnst.__file__).parent / "weights/embedded/mini.safetensors"

    def keep(names: object, metadata: object) -> set[str]:
        with jax.numpy_rank_promotion("raise"):
            jax.numpy.add(jax.numpy.ones((2, 3)), jax.numpy.ones(3))
        return set()

    with pytest.raises(ValueError, match="could not be broadcast") as caught:
        read_tensors(path, keep)  # pyright: ignore[reportArgumentType]
    assert "mini" not in str(caught.value)
