"""Every loss, whole and split over eight devices; prints {case: relative differences} as JSON.

The differences are those of values and gradients, split along the batch, then along the height.
"""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from contracts import CASES, Case, random_features
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def value_and_gradient(case: Case, features: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    values, pull = jax.vjp(lambda x: case.fitted_value(x, targets), features)
    return values, pull(jnp.ones_like(values))[0]


def difference(value: jax.Array, exact: jax.Array) -> float:
    assert len(value.devices()) == 8
    return float(np.abs(np.asarray(value) - np.asarray(exact)).max() / np.abs(exact).max())


def main() -> None:
    assert jax.device_count() == 8
    mesh = Mesh(np.asarray(jax.devices()), ("devices",))
    differences: dict[str, list[float]] = {}
    for name, case in CASES.items():
        arrays = [random_features(seed, 8, 16, 5, case.channels) for seed in (1, 2)]
        exact = value_and_gradient(case, *map(jnp.asarray, arrays))
        run = jax.jit(partial(value_and_gradient, case))
        differences[name] = []
        for spec in (PartitionSpec("devices"), PartitionSpec(None, "devices")):
            placed = [jax.device_put(array, NamedSharding(mesh, spec)) for array in arrays]
            differences[name] += [difference(value, whole) for value, whole in zip(run(*placed), exact, strict=True)]
    print(json.dumps(differences))


if __name__ == "__main__":
    main()
