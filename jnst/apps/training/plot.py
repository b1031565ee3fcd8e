"""Plot loss and accuracy over the epochs."""

import importlib.util
import io
import os
from collections.abc import Sequence
from pathlib import Path

from jnst.apps.training.classifier import Epoch
from jnst.errors import ArgumentError
from jnst.weights.files import write_atomically

SUFFIXES = (".png", ".svg", ".pdf")
DOTS_PER_INCH = 120


def check_plot(path: str | os.PathLike[str]) -> None:
    """Check before training that `save_plot` can draw to this path.

    Raises:
        ArgumentError: matplotlib is not installed, or the suffix is not one of `SUFFIXES`.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise ArgumentError(f"plot {str(path)!r}: expected a file name that ends in {', '.join(SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ArgumentError("plots need matplotlib, which is not installed: install it with pip install 'jnst[app]'")


def save_plot(path: str | os.PathLike[str], history: Sequence[Epoch]) -> None:
    """Draw loss and accuracy of the training and the held-out images side by side.

    Args:
        path: The file, replaced in one step. Its suffix, one of `SUFFIXES`, selects the format.
        history: At least one epoch.

    Raises:
        ArgumentError: As in `check_plot`, or the file cannot be written.
    """
    check_plot(path)
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

    figure = Figure(figsize=(9, 3.5), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(1, 2)
    epochs = [epoch.epoch for epoch in history]
    for axis, quantity, label in zip(axes, ("loss", "accuracy"), ("cross-entropy (nats)", "accuracy"), strict=True):
        for part in ("train", "test"):
            axis.plot(epochs, [getattr(epoch, f"{part}_{quantity}") for epoch in history], marker="o", label=part)
        axis.set_xlabel("epoch")
        axis.set_ylabel(label)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend()
    axes[1].set_ylim(0, 1)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=Path(path).suffix.lower()[1:])
    write_atomically(path, buffer.getvalue())
