"""Many steps in one compiled program."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from jnst.types import Array

Step: TypeAlias = Callable[[Any], tuple[Any, Any]]
"""``state -> (state, record)``."""


def scan_steps(step: Step, state: Any, num_steps: int) -> tuple[Any, Any]:
    """Make a fixed number of steps that can be differentiated in reverse mode.

    Steps are grouped into about √n segments of √n steps, both rematerialised. A gradient stores the states between
    segments, and those between the steps of one segment at a time: memory for about 2 √n states and the intermediate
    values of a single step, at the cost of two further forward passes.

    Args:
        step: One step.
        state: Before the first step.
        num_steps: n, at least 0.

    Returns:
        The state after the last step, and all records with a leading axis of n.
    """
    length = max(1, math.isqrt(num_steps))
    segments = -(-num_steps // length)
    _, record = jax.eval_shape(step, state)

    def skip(state: Any) -> tuple[Any, Any]:
        return state, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), record)

    def one(state: Any, index: Array) -> tuple[Any, Any]:
        if segments * length == num_steps:
            return step(state)
        return lax.cond(index < num_steps, step, skip, state)

    def segment(state: Any, indices: Array) -> tuple[Any, Any]:
        return lax.scan(jax.checkpoint(one, prevent_cse=False), state, indices)

    indices = jnp.arange(segments * length).reshape(segments, length)
    state, records = lax.scan(jax.checkpoint(segment, prevent_cse=False), state, indices)
    return state, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num_steps], records)


def loop_steps(step: Step, state: Any, num_steps: Array | int, room: int) -> tuple[Any, Any]:
    """Make a number of steps that only needs to be known when the program runs.

    Args:
        step: One step.
        state: Before the first step.
        num_steps: n, an integer scalar that may be traced.
        room: How many records are kept.

    Returns:
        The state after the last step, and the first ``room`` records with a leading axis of that length, NaN where no
        step was made.
    """
    _, record = jax.eval_shape(step, state)
    records = jax.tree.map(lambda leaf: jnp.full((room, *leaf.shape), jnp.nan, leaf.dtype), record)

    def body(carry: Any) -> Any:
        index, state, records = carry
        state, record = step(state)
        put = lambda leaf, value: leaf.at[index].set(value, mode="drop")  # noqa: E731
        return index + 1, state, jax.tree.map(put, records, record)

    _, state, records = lax.while_loop(lambda carry: carry[0] < num_steps, body, (jnp.int32(0), state, records))
    return state, records
