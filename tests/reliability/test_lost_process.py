"""A catalogue on a Ray cluster that loses a machine, or whose command is killed; `lost_process.py` tries it often."""

import pytest


def test_every_image_is_made_once() -> None:
    pytest.importorskip("ray")
    from lost_process import rounds

    result = rounds(count=1, steps=200, seed=3)
    assert result["faults"] == []
    assert result["rounds"] == 1
