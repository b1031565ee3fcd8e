"""Evaluate the perceptual loss and its gradient on one device and on four, and print {way: relative difference}."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from contracts import random_image, random_params, tiny_backbone
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jnst
from jnst.types import Params

BACKBONE = tiny_backbone()
OBJECTIVE = jnst.make_objective(content_layers=("relu2_1",), style_layers=("relu1_1",), style_weight=3.0)


def evaluate(params: Params, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    values, pull = jax.vjp(lambda x: jnst.PerceptualLoss(OBJECTIVE, BACKBONE)(params, x, y), x)
    return values, pull(jnp.ones_like(values))[0]


def main() -> None:
    assert jax.device_count() == 4
    mesh, batch = Mesh(np.asarray(jax.devices()), ("batch",)), PartitionSpec("batch")
    params, x, y = random_params(BACKBONE), random_image(1, 8, 16, 17), random_image(2, 8, 16, 17)
    exact = jax.jit(evaluate)(params, x, y)
    mapped = partial(jax.shard_map, mesh=mesh, in_specs=(PartitionSpec(), batch, batch), out_specs=(batch, batch))
    divided = jax.device_put((x, y), NamedSharding(mesh, batch))
    found = {
        "shard_map": jax.jit(mapped(evaluate))(params, x, y),
        "sharded arrays": jax.jit(evaluate)(params, *divided),
    }
    differences = {}
    for way, values in found.items():
        assert len(values[0].devices()) == 4
        pairs = zip(jax.tree.leaves(values), jax.tree.leaves(exact), strict=True)
        differences[way] = max(float(np.abs(np.asarray(a) - b).max() / np.abs(b).max()) for a, b in pairs)
    print(json.dumps(differences))


if __name__ == "__main__":
    main()
