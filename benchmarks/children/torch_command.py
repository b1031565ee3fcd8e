"""neural-style-pt's loop in PyTorch as a command: from two image files to one, with Adam.

    python torch_command.py WEIGHTS.npz CONTENT STYLE SIZE STEPS OUTPUT

WEIGHTS is a file written by `benchmarks.networks.write_inputs`, whose images are not used. "step N" is printed after
every step.
"""

import sys
from pathlib import Path

from PIL import Image

from benchmarks.networks import read_inputs, sized_image
from benchmarks.peers.interface import Settings
from benchmarks.peers.torch_neural_style import prepare


def main(arguments: list[str]) -> None:
    weights, content, style, size, steps, output = arguments
    settings = Settings(read_inputs(Path(weights))[0], learning_rate=10.0)
    step = prepare(sized_image(Path(content), int(size)), sized_image(Path(style), int(size)), settings)
    for number in range(int(steps)):
        step.advance()
        print(f"step {number + 1}", flush=True)
    Image.fromarray((step.image().clip(0, 1) * 255).round().astype("uint8")).save(output)


if __name__ == "__main__":
    main(sys.argv[1:])
