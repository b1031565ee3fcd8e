"""The benchmark of convolution algorithms: its layers, its results, and its check of wrong algorithms."""

import jax.numpy as jnp
import pytest

from benchmarks import convolutions
from jnst.backbones.kernels.algorithms import ALGORITHMS, Algorithm, select_algorithm

pytestmark = pytest.mark.usefixtures("unoptimised")


def test_every_convolution_of_vgg19_once() -> None:
    found = convolutions.shapes(256)
    assert found[0] == (256, 3, 64)
    assert found[-1] == (16, 512, 512)
    assert len(found) == len(set(found)) == 9
    assert sum(c_in == c_out for _, c_in, c_out in found) == 5


def test_every_algorithm_is_compared_with_xla(capsys: pytest.CaptureFixture[str]) -> None:
    found = convolutions.measure_layer(16, 8, 64, 128, rounds=2)
    assert found["taken"] == select_algorithm("cpu", "auto", (3, 3, 64, 128))
    assert found["seconds"].keys() == {"xla", *ALGORITHMS}
    for name in ALGORITHMS:
        ours, theirs = (found["seconds"][each]["samples"] for each in (name, "xla"))
        assert found["ratios"][name]["samples"] == [our / their for our, their in zip(ours, theirs, strict=True)]
    assert f"{found['taken']}*" in capsys.readouterr().out
    assert len(convolutions.plot({"layers": [found]}).axes) == 1


def test_a_wrong_algorithm_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Algorithm(lambda kernel: kernel, lambda x, kernel: jnp.zeros((*x.shape[:3], kernel.shape[3])))
    monkeypatch.setitem(ALGORITHMS, "winograd", wrong)
    with pytest.raises(RuntimeError, match="winograd differs from XLA's convolution by 1 of"):
        convolutions.measure_layer(16, 4, 3, 8, rounds=1)
