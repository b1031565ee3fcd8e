"""How large images are loaded for a pyramid."""

from pathlib import Path

import hypothesis
from hypothesis import strategies as st

import jnst
from jnst.apps.io.sizes import DETAIL, load_options, loaded_shape
from jnst.images import fit_shape

SIDES = st.integers(1, 6000)


def loaded(own: tuple[int, int], size: int) -> tuple[int, int]:
    settings = jnst.preset("crowson", size=size)
    return loaded_shape(own, load_options(Path("image"), settings, size_of=lambda _: own))


def test_sizes_are_rounded_once() -> None:
    """A painting of 1280x1014 is 181x143 at 181 pixels; 724x574 in between would make it 181x144."""
    assert fit_shape(loaded((1014, 1280), 181), 181) == (143, 181)
    assert loaded((3000, 2000), 181) == (726, 484)
    assert loaded((480, 640), 181) == (480, 640)


@hypothesis.given(height=SIDES, width=SIDES, size=st.integers(16, 700))
def test_an_image_is_loaded_in_its_proportions(height: int, width: int, size: int) -> None:
    shape = loaded((height, width), size)
    longer = max(height, width)
    assert min(DETAIL * size, longer) <= max(shape) <= min(2 * DETAIL * size, longer)
    exact = size * min(height, width) / longer
    assert abs(size * min(shape) / max(shape) - exact) < 1 / size or min(shape) == 1
