"""The benchmark of LPIPS, small: our two ways agree, and so do the other packages where they are installed."""

import argparse

import numpy as np
import pytest

from benchmarks import lpips

pytestmark = pytest.mark.usefixtures("unoptimised")

OPTIONS = argparse.Namespace(shared=None, weights=None, sizes=[32], batch=2, rounds=1, peers=list(lpips.LPIPS_PEERS))


def test_measure() -> None:
    """Values are compared within `measure`, and gradients before it: a peer that differs is an error."""
    found = lpips.measure(OPTIONS)
    (row,) = found["comparisons"]
    assert row["seconds"].keys() | row["unavailable"].keys() == set(lpips.LPIPS_PEERS)
    assert {"jnst-prepared", "jnst-plain"} <= row["seconds"].keys()
    assert len(lpips.plot(found).axes) == 1


def test_a_wrong_gradient_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = iter((np.ones(3), np.full(3, 1.1)))
    monkeypatch.setattr(lpips, "prepare", lambda name, problem: lambda: (1.0, next(gradients)))
    with pytest.raises(RuntimeError, match=r"^jnst-plain: the gradient differs by 0\.1"):
        lpips.prepare_steps(["jnst-prepared", "jnst-plain"], lpips.make_problem(OPTIONS, 8))
