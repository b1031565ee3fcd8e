"""Sequences of which a bounded number of items is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jnst.apps.thinning import Thinned


@given(count=st.integers(0, 700), most=st.integers(2, 60))
def test_items_are_few_and_evenly_spread_from_the_first(count: int, most: int):
    made: list[int] = []
    thinned = Thinned[int](most)
    for number in range(count):
        thinned.offer(lambda number=number: made.append(number) or number)
    if count <= most:
        assert thinned.items == list(range(count))
        return
    every = thinned.items[1] - thinned.items[0]
    assert every & (every - 1) == 0
    assert thinned.items == list(range(0, count, every))
    assert most // 2 <= len(thinned.items) <= most
    assert set(thinned.items) <= set(made)


@pytest.mark.parametrize(("count", "made"), [(4, 4), (5, 5), (8, 6), (16, 8)])
def test_items_that_are_not_kept_are_not_made(count: int, made: int):
    calls: list[int] = []
    thinned = Thinned[None](4)
    for number in range(count):
        thinned.offer(lambda number=number: calls.append(number))
    assert len(calls) == made  # 0 1 2 3, 4, 6, 8, 12
