"""Ways of convolving side by side: which layers, what is reported, and that a wrong way is no measurement."""

import jax.numpy as jnp
import pytest

from benchmarks import convolutions
from jnst.backbones.kernels.choice import FORMULATIONS, Formulation, fastest

pytestmark = pytest.mark.usefixtures("unoptimised")


def test_every_convolution_of_vgg19_once() -> None:
    found = convolutions.shapes(256)
    assert found[0] == (256, 3, 64)
    assert found[-1] == (16, 512, 512)
    assert len(found) == len(set(found)) == 9
    assert sum(c_in == c_out for _, c_in, c_out in found) == 5


def test_a_row_compares_every_way_with_xla(capsys: pytest.CaptureFixture[str]) -> None:
    found = convolutions.row(16, 8, 64, 128, rounds=2)
    assert found["taken"] == fastest("cpu", "auto", (3, 3, 64, 128))
    assert found["seconds"].keys() == {"xla", *FORMULATIONS}
    for name in FORMULATIONS:
        ours, theirs = (found["seconds"][each]["samples"] for each in (name, "xla"))
        assert found["ratios"][name]["samples"] == [our / their for our, their in zip(ours, theirs, strict=True)]
    assert f"{found['taken']}*" in capsys.readouterr().out
    assert len(convolutions.plot({"layers": [found]}).axes) == 1


def test_a_fast_wrong_way_cannot_win(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Formulation(lambda kernel: kernel, lambda x, kernel: jnp.zeros((*x.shape[:3], kernel.shape[3])))
    monkeypatch.setitem(FORMULATIONS, "winograd", wrong)
    with pytest.raises(RuntimeError, match="winograd lies 1 from XLA's"):
        convolutions.row(16, 4, 3, 8, rounds=1)
