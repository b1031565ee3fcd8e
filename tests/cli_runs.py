"""Run the command line inside the test process, on small images."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from jnst.apps.cli import main

SLIM = "weights/vgg19-slim16x/encoder_relu5_1.pth"
OXFORD = "weights/vgg19-oxford-tfjs/model.json"
SHALLOW = ("--content-layers", "relu2_2", "--style-layers", "relu1_1,relu2_1")
WIDTH, HEIGHT = 64, 48


class Finished(NamedTuple):
    """The exit status of a command, and the lines that it wrote to standard output and to standard error."""

    status: int
    out: list[str]
    err: list[str]

    def only_error(self) -> str:
        """The one line that says what went wrong, after nothing but remarks and progress."""
        *before, last = self.err
        assert last.startswith("jnst: error: ")
        assert all(line.startswith(("step ", "compiling ", "jnst: no GPU", "jnst: preset ")) for line in before)
        return last


def run(capsys: pytest.CaptureFixture[str], *args: object) -> Finished:
    """Run `jnst` with these arguments. As in a shell, a `SystemExit` becomes an exit status."""
    capsys.readouterr()
    try:
        status = main([str(arg) for arg in args])
    except SystemExit as end:
        status = int(end.code or 0)
    captured = capsys.readouterr()
    return Finished(status, captured.out.splitlines(), captured.err.splitlines())


def save_images(folder: Path) -> tuple[Path, Path]:
    """Write a content and a style image: smooth, unlike each other, without grain that a codec could not keep."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / WIDTH
    content = np.stack([x, y, 0.5 + 0.3 * np.sin(9 * x)], axis=-1)
    style = np.stack([0.5 + 0.4 * np.sin(20 * y), 0.3 + 0.2 * x, 0.5 + 0.4 * np.cos(15 * (x + y))], axis=-1)
    paths = folder / "content.png", folder / "style.png"
    for path, image in zip(paths, (content, style), strict=True):
        Image.fromarray(np.round(255 * image).astype(np.uint8)).save(path)
    return paths
