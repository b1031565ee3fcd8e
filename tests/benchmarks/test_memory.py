"""The benchmark of memory does what it says, on a small network at the smallest size; nothing here is about time."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import divided, memory

pytestmark = pytest.mark.usefixtures("unoptimised")


def test_steps_in_every_variant(tmp_path: Path) -> None:
    rows = memory.measure("convnet", 32, rounds=2)
    assert [row["variant"] for row in rows] == list(memory.variants())
    for row in rows:
        assert (row["backbone"], row["size"], len(row["seconds"])) == ("convnet", 32, 2)
        # The picture, its gradient, and something between.
        assert row["total_bytes"] > row["temporary_bytes"] > 2 * 4 * 32 * 32 * 3
    parts = [divided.row("convnet", 32, 1, remat) for remat in (False, True)]
    memory.plot(tmp_path / "memory.png", rows, parts)
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("value", "change"), [(1.001, 0.0), (1.0, 0.01), (np.nan, 0.0), (1.0, np.nan)])
def test_a_variant_with_another_result_is_no_measurement(value: float, change: float) -> None:
    gradient = np.linspace(-1, 1, 12)
    plain = ((np.float32(1), {}), gradient)
    memory.check_equal({"plain": plain, "remat": plain})
    with pytest.raises(RuntimeError, match="remat differs from plain"):
        memory.check_equal({"plain": plain, "remat": ((np.float32(value), {}), gradient + change)})


def test_eight_devices_need_less_each_than_one() -> None:
    rows = memory.divided_rows(["convnet"], [64], [1, 8])
    needed = {(row["devices"], row["remat"]): row["temporary_bytes"] for row in rows}
    assert needed.keys() == {(1, False), (1, True), (8, False), (8, True)}
    assert needed[8, False] < needed[1, False]
