"""Make one step with the embedded network in a fresh process: a child of `benchmarks.cold`.

    python -m benchmarks.children.first_step SIZE

Prints JSON: the time at which the step was done, in seconds since 1970, and the loss that it evaluated.
"""

import json
import sys
import time


def main(arguments: list[str]) -> int:
    """Import jnst, as a program would, and make one step; returns the exit status."""
    import jax

    import jnst
    from jnst.images.demo import content_image, style_image

    size = int(arguments[0])
    content, style = (jax.numpy.asarray(make(size, size)) for make in (content_image, style_image))
    solution = jnst.stylize(content, style, preset=jnst.preset("jnst", pyramid=None), num_steps=1)
    jax.block_until_ready(solution.image)
    print(json.dumps({"done": time.time(), "loss": float(solution.losses[0])}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
