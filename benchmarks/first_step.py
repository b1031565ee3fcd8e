"""From a fresh process to the first finished step with the embedded network: a child of `benchmarks.cold`.

    python -m benchmarks.first_step SIZE

Prints JSON: when the step was done, in seconds since 1970, and the loss that it evaluated.
"""

import json
import sys
import time


def main(arguments: list[str]) -> int:
    """jnst is imported here, as a program would."""
    import jax

    import jnst
    from jnst.images.demo import content_image, style_image

    size = int(arguments[0])
    content, style = (make(size, size) for make in (content_image, style_image))
    settings = jnst.preset("jnst", pyramid=None, num_steps=(1,))
    solution = jnst.transfer.stylize(jax.numpy.asarray(content), jax.numpy.asarray(style), preset=settings)
    jax.block_until_ready(solution.image)
    print(json.dumps({"done": time.time(), "loss": float(solution.losses[0])}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
