"""Training as an image: loss and accuracy over the epochs."""

import importlib.util
import io
import os
from collections.abc import Sequence
from pathlib import Path

from jnst.apps.training.fit import Epoch
from jnst.errors import ArgumentError
from jnst.weights.files import write_atomically

SUFFIXES = (".png", ".svg", ".pdf")
DOTS_PER_INCH = 120


def check_plot(path: str | os.PathLike[str]) -> None:
    """Fail before training if a plot could not be drawn under this name.

    Raises:
        ArgumentError: matplotlib is not installed, or the suffix is none of `SUFFIXES`.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise ArgumentError(f"plot '{os.fspath(path)}': expected a name that ends in {', '.join(SUFFIXES)}; rename it")
    if importlib.util.find_spec("matplotlib") is None:
        raise ArgumentError("plots need matplotlib, which is not installed: pip install jnst[plots], or leave --plot out")


def save_plot(path: str | os.PathLike[str], history: Sequence[Epoch]) -> None:
    """Draw the losses and accuracies of training and held-out images, side by side.

    Args:
        path: The file, which is replaced as a whole; its suffix, one of `SUFFIXES`, says the format.
        history: At least one epoch.

    Raises:
        ArgumentError: As `check_plot`, or the file cannot be written.
    """
    check_plot(path)
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

    figure = Figure(figsize=(9, 3.5), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(1, 2)
    epochs = [epoch.epoch for epoch in history]
    for axis, what, label in zip(axes, ("loss", "accuracy"), ("cross-entropy (nats)", "accuracy"), strict=True):
        for part in ("train", "test"):
            axis.plot(epochs, [getattr(epoch, f"{part}_{what}") for epoch in history], marker="o", label=part)
        axis.set_xlabel("epoch")
        axis.set_ylabel(label)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend()
    axes[1].set_ylim(0, 1)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=Path(path).suffix.lower()[1:])
    write_atomically(path, buffer.getvalue())
