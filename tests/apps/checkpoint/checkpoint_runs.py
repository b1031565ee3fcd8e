"""Tiny runs whose states differ in kind. As a script, continues them in another process."""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from contracts import random_image, random_params

import jnst

BACKBONE = jnst.make_backbone("convnet", widths=((4,), (6,)), pooling="avg")
NETWORK = {"params": random_params(BACKBONE), "backbone": BACKBONE}
CONTENT, STYLE = random_image(1, 20, 24), random_image(2, 18, 16)
SETTINGS = jnst.preset(
    content_layers=("relu2_1",),
    style_layers=("relu1_1",),
    pyramid=jnst.Pyramid(2.0, min_size=12),
    num_steps=(3, 2),
)
RUNS: dict[str, dict[str, Any]] = {
    "adam": {
        "optimizer": jnst.Adam(4.0),
        "average": 0.9,
        "clamp": True,
        "carry_optimizer": True,
        "carry_average": True,
    },
    "lbfgs": {"optimizer": jnst.LBFGS(memory_size=3)},
    "line search": {"optimizer": jnst.LBFGS(memory_size=2, zoom=True), "keep_best": True},
    "pyramid levels": {"optimizer": jnst.RMSprop(levels=2), "keep_best": True},
    "stochastic": {"optimizer": jnst.Adam(4.0), "style_loss": jnst.losses.SlicedWasserstein(), "init": "noise"},
}
"""Changes of `SETTINGS`, by name. Each run makes 3 steps at half the size and 2 at full size."""


def make(name: str, **changes: Any) -> jnst.Solution:
    """Carry out one of `RUNS`, with changes of its settings, or further arguments of `jnst.stylize`."""
    arguments = {key: changes.pop(key) for key in ("state", "callback", "size") if key in changes}
    settings = jnst.preset(SETTINGS, **(RUNS[name] | changes))
    return jnst.stylize(CONTENT, STYLE, preset=settings, key=jax.random.key(5), **NETWORK, **arguments)


def same_bits(first: Any, second: Any) -> bool:
    """Whether two pytrees have the same structure, and arrays of the same types (weak ones included) and bits."""
    leaves, others = jax.tree.leaves(first), jax.tree.leaves(second)
    return jax.tree.structure(first) == jax.tree.structure(second) and all(
        (a.dtype, a.weak_type) == (b.dtype, b.weak_type) and np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(leaves, others, strict=True)
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for run in RUNS:
        solution = make(run, state=jnst.load_state(folder / run))
        jnst.save_state(folder / f"{run}.end", solution.state, records={"image": np.asarray(solution.image)})
