"""What a step needs on each device when the image's rows are divided among pretend CPU devices; nothing is run.

A child of `benchmarks.memory`; prints JSON: a list of rows, with and without rematerialisation, all compiled with the
options that jnst gives.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m benchmarks.divided --backbone vgg19 --sizes 512
"""

import argparse
import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jnst
from jnst.backbones import Backbone
from jnst.solve import devices as parallel
from jnst.solve.compilation import known
from jnst.transfer.plan import TransferLoss

MOST_DEVICES = 8


def compiled_step(backbone: Backbone, size: int, devices: int) -> Any:
    """A gradient of the objective that "jnst" minimises, for images and parameters without values."""
    mesh = Mesh(np.asarray(jax.devices()[:devices]), ("devices",))
    everywhere = NamedSharding(mesh, PartitionSpec())
    picture = jax.ShapeDtypeStruct((size, size, 3), jnp.float32)
    params = jax.eval_shape(backbone.init, jax.random.key(0))
    objective = jnst.preset("jnst").objective(backbone)
    targets = jax.eval_shape(partial(jnst.fit_targets, backbone=backbone), objective, params, picture, picture)
    args = (objective, targets, params, jax.random.key(0))
    copies = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), args)
    image = jax.ShapeDtypeStruct(picture.shape, picture.dtype, sharding=parallel.rows(mesh))
    step = jax.jit(jax.value_and_grad(TransferLoss(backbone, mesh), has_aux=True))
    return step.lower(image, copies, jnp.int32(0)).compile(compiler_options={**known("cpu")})


def row(name: str, size: int, devices: int, remat: bool) -> dict[str, Any]:
    compiled = compiled_step(jnst.make_backbone(name, remat=remat), size, devices)
    return {
        "backbone": name,
        "size": size,
        "devices": devices,
        "remat": remat,
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "total_bytes": parallel.needed_bytes(compiled),
    }


def main() -> None:
    """Print a row for every combination."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", nargs="+", default=["vgg19"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512])
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    args = parser.parse_args()
    rows = [
        row(name, size, devices, remat)
        for name in args.backbone
        for size in args.sizes
        for devices in args.devices
        for remat in (False, True)
    ]
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
