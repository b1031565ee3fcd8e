"""A process that is killed while it shares a catalogue with another; ten rounds are `lost_process.py`'s own."""

from lost_process import HEARTBEAT, rounds

SLACK = 30
"""How much longer than the heartbeat an end may take, in seconds, where the machine is busy."""


def test_nothing_is_left_running_and_the_rest_is_done_once() -> None:
    result = rounds(count=1, steps=60, seed=3)
    assert result["faults"] == []
    (said,) = result["rounds"]
    assert said["seconds"] < HEARTBEAT + SLACK
