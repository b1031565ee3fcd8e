"""Tiny runs of every kind that has a state of its own; as a script it goes on with them in another process."""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from contracts import random_image, random_params

import jnst
from jnst.transfer.stylize import Solution, stylize

BACKBONE = jnst.make_backbone("convnet", widths=((4,), (6,)), pooling="avg")
GIVEN = {"params": random_params(BACKBONE), "backbone": BACKBONE}
CONTENT, STYLE = random_image(1, 20, 24), random_image(2, 18, 16)
SETTINGS = jnst.preset(
    content_layers=("relu2_1",),
    style_layers=("relu1_1",),
    pyramid=jnst.Pyramid(2.0, min_size=12),
    num_steps=(3, 2),
)
CARRIED = {"carry_optimizer": True, "carry_average": True}
RUNS: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": jnst.Adam(4.0), "average": 0.9, "clamp": True, **CARRIED},
    "lbfgs": {"optimizer": jnst.LBFGS(memory_size=3)},
    "search": {"optimizer": jnst.LBFGS(memory_size=2, zoom=True), "keep_best": True},
    "levels": {"optimizer": jnst.RMSprop(levels=2), "keep_best": True},
    "drawing": {"optimizer": jnst.Adam(4.0), "style_loss": jnst.losses.SlicedWasserstein(), "init": "noise"},
}
"""Changes of `SETTINGS` by name: of 3 steps at a small size, and 2 at the whole."""


def make(name: str, **changes: Any) -> Solution:
    """One of `RUNS`, with changes of its settings or further arguments of `jnst.transfer.stylize`."""
    arguments = {key: changes.pop(key) for key in ("state", "callback", "size") if key in changes}
    settings = jnst.preset(SETTINGS, **(RUNS[name] | changes))
    return stylize(CONTENT, STYLE, preset=settings, key=jax.random.key(5), **GIVEN, **arguments)


def same_bits(first: Any, second: Any) -> bool:
    """Whether two trees have the same structure, and arrays of the same types and bits.

    Types that give way to others' (weak ones) count too: a line search has some in its state.
    """
    leaves, others = jax.tree.leaves(first), jax.tree.leaves(second)
    return jax.tree.structure(first) == jax.tree.structure(second) and all(
        (a.dtype, a.weak_type) == (b.dtype, b.weak_type) and np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(leaves, others, strict=True)
    )


if __name__ == "__main__":
    for run in RUNS:
        folder = Path(sys.argv[1])
        solution = make(run, state=jnst.load_state(folder / run))
        jnst.save_state(folder / f"{run}.end", solution.state, records={"image": np.asarray(solution.image)})
