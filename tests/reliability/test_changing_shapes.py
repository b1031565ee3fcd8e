"""A process that meets ever new image shapes keeps few programs, and does not touch those of other code."""

import itertools

import changing_shapes
import jax
import jax.numpy as jnp
import pytest
from changing_shapes import Compilations, look, run, shapes

from jnst.solve import compilation

MOST = 2


@pytest.mark.long
@pytest.mark.usefixtures("unoptimised")
def test_programs_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "MAX_PROGRAMS", MOST)
    jax.clear_caches()  # Programs of earlier tests would be evicted from JAX's own caches meanwhile.
    other = jax.jit(lambda x: jnp.sin(x) + 0.625)
    other(jnp.ones(7))
    compiled, seen = Compilations(), []
    for shape in itertools.islice(shapes(6), 6):
        run(shape)
        seen.append(look())
    assert compiled.of("steps") == 6
    assert len({one.programs for one in seen[MOST + 1 :]}) == 1, "programs of old shapes are still there"
    assert len({one.arrays for one in seen[1:]}) == 1
    assert len({one.files for one in seen[1:]}) == 1
    for shape in list(shapes(6))[-MOST:]:
        run(shape)
    assert compiled.of("steps") == 6, "a shape seen lately was compiled again"
    run(next(shapes(1)))
    assert compiled.of("steps") == 7, "an evicted program is still there"
    compiled.names.clear()
    other(jnp.ones(7))
    assert not compiled.of("lambda")


def test_growth_is_that_of_the_last_over_the_first() -> None:
    seen = [changing_shapes.Seen(resident, 1, 1, 1) for resident in [900.0] * 50 + [100.0] * 50 + [103.0] * 20]
    assert changing_shapes.growth(seen) == pytest.approx(3)
