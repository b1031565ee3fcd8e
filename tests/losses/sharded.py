"""Evaluate every loss on one device and on eight, and print {case: relative differences} as JSON.

The differences are those of values and gradients, sharded along the batch, then along the height.
"""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from contracts import CASES, Case, random_features
from jax.sharding import Mesh, NamedSharding, PartitionSpec

CHANNELS = {case.channels for case in CASES.values()}


def value_and_gradient(case: Case, features: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    values, pull = jax.vjp(lambda x: case.fitted_value(x, targets), features)
    return values, pull(jnp.ones_like(values))[0]


@jax.jit
def evaluate(pairs: dict[int, list[jax.Array]]) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Evaluate all cases in one program, which compiles faster than one per case. ``pairs`` are by channels."""
    return {name: value_and_gradient(case, *pairs[case.channels]) for name, case in CASES.items()}


def difference(value: jax.Array, exact: jax.Array) -> float:
    assert len(value.devices()) == 8
    return float(np.abs(np.asarray(value) - np.asarray(exact)).max() / np.abs(exact).max())


def main() -> None:
    assert jax.device_count() == 8
    mesh = Mesh(np.asarray(jax.devices()), ("devices",))
    pairs: Any = {count: [jnp.asarray(random_features(seed, 8, 16, 5, count)) for seed in (1, 2)] for count in CHANNELS}
    unsharded = evaluate(pairs)
    differences: dict[str, list[float]] = {name: [] for name in CASES}
    for spec in (PartitionSpec("devices"), PartitionSpec(None, "devices")):
        sharded = evaluate(jax.device_put(pairs, NamedSharding(mesh, spec)))
        for name, values in sharded.items():
            differences[name] += [
                difference(value, exact) for value, exact in zip(values, unsharded[name], strict=True)
            ]
    print(json.dumps(differences))


if __name__ == "__main__":
    main()
