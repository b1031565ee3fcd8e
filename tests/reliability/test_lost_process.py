"""A catalogue on a Ray cluster that loses a machine; `lost_process.py` tries it often, and kills commands too."""

import pytest


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # Ray starts other programs at once
def test_every_image_is_made_once() -> None:
    pytest.importorskip("ray")
    from lost_process import rounds

    result = rounds(count=1, steps=200, seed=3, kills=False)
    assert result["faults"] == []
    assert result["in time"] == 1
