"""Compare the steps of several peers on the same images: their times, their losses, and ratios of times."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.networks import ImageArray
from benchmarks.peers import PEERS, Settings, Step, Unavailable
from benchmarks.samples import check_losses, ratios, shown, spread, take_turns

WARM_UP = 2
OURS = "jnst-"
"""The beginning of the names of our own peers."""


def prepare_steps(
    names: Iterable[str], content: ImageArray, style: ImageArray, settings: Settings
) -> tuple[dict[str, Step], dict[str, str]]:
    """Prepare the steps of all peers that have the statistic.

    Returns:
        The steps, and for peers that do not work here the reason, by name.
    """
    steps: dict[str, Step] = {}
    unavailable: dict[str, str] = {}
    for name in names:
        if settings.statistic not in PEERS[name].statistics:
            continue
        try:
            steps[name] = peers.prepare(name, content, style, settings)
        except Unavailable as reason:
            unavailable[name] = str(reason)
            print(f"{name:24} is left out: {reason}", flush=True)
    return steps, unavailable


def measure(steps: Mapping[str, Step], rounds: int, tolerances: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Time steps in turns.

    Args:
        steps: By names of `PEERS`, or by any names with ``tolerances``.
        rounds: Samples of each, after `WARM_UP` calls that are not timed.
        tolerances: See `check_losses`; None: those of `PEERS`.

    Returns:
        For each peer the ``seconds`` of a step (see `spread`) and its ``losses``; and the ``ratios`` of `pairs`.

    Raises:
        RuntimeError: The losses differ; see `check_losses`.
    """
    losses: dict[str, list[float]] = {name: [] for name in steps}
    calls = {name: partial(_advance, step, losses[name]) for name, step in steps.items()}
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    times = take_turns(calls, rounds)
    check_losses(losses, {name: PEERS[name].tolerance for name in steps} if tolerances is None else tolerances)
    seconds = {name: [time / step.length for time in times[name]] for name, step in steps.items()}
    return {
        "seconds": {name: spread(samples) for name, samples in seconds.items()},
        "ratios": {f"{ours} / {theirs}": ratios(seconds[ours], seconds[theirs]) for ours, theirs in pairs(seconds)},
        "losses": losses,
    }


def _advance(step: Step, losses: list[float]) -> None:
    losses += step.advance()


def pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Each of our peers with each of the others."""
    names = list(names)
    others = [name for name in names if not name.startswith(OURS)]
    return [(name, other) for name in names if name.startswith(OURS) for other in others]


def show(title: str, found: Mapping[str, Any]) -> None:
    """Print a table of the seconds of a step, and of ratios."""
    print(f"\n{title}: seconds of a step, median (quartiles)")
    for name, seconds in found["seconds"].items():
        print(f"  {name:46} {shown(seconds, digits=4)}")
    for name, values in found["ratios"].items():
        print(f"  {name:46} {shown(values)} x")


def draw_bars(axis: Any, found: Mapping[str, Any], title: str) -> None:
    """Draw the median seconds of each peer's step, with quartiles."""
    rows = found["seconds"]
    medians = [row["median"] for row in rows.values()]
    errors = np.transpose([np.abs(np.subtract(row["quartiles"], row["median"])) for row in rows.values()])
    colors = ["C0" if name.startswith(OURS) else "0.65" for name in rows]
    drawn = axis.barh(list(rows), medians, xerr=errors, color=colors, error_kw={"lw": 1, "capsize": 2})
    axis.bar_label(drawn, [f" {median:.3g}" for median in medians], fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.18)
    axis.set(title=title, xlabel="seconds of a step")
    axis.tick_params(labelsize=8)
