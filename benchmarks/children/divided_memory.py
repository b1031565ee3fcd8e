"""Compute the memory of a step when the rows of an image are divided among simulated CPU devices. Nothing is run.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 \\
        python -m benchmarks.children.divided_memory --backbone vgg19 --sizes 512

A child of `benchmarks.memory`. Prints JSON: a list of rows, with and without rematerialisation, all compiled with
jnst's compiler options.
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
from jnst.solve.compilation import supported_options
from jnst.solve.devices import needed_bytes, row_sharding

MAX_DEVICES = 8


def compile_step(backbone: Backbone, size: int, devices: int) -> Any:
    """Compile the value and the gradient of the preset "jnst"'s loss, for arguments without values."""
    mesh = Mesh(np.asarray(jax.devices()[:devices]), ("devices",))
    everywhere = NamedSharding(mesh, PartitionSpec())
    image = jax.ShapeDtypeStruct((size, size, 3), jnp.float32)
    params = jax.eval_shape(backbone.init, jax.random.key(0))
    objective = jnst.preset("jnst").terms.objective(backbone)
    targets = jax.eval_shape(partial(jnst.fit_targets, backbone=backbone), image, image, objective, params)
    args = (objective, targets, params, jax.random.key(0))
    copies = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), args)
    rows = jax.ShapeDtypeStruct(image.shape, image.dtype, sharding=row_sharding(mesh))
    step = jax.jit(jax.value_and_grad(jnst.transfer_loss(backbone, mesh=mesh), has_aux=True))
    return step.lower(rows, copies, jnp.int32(0)).compile(compiler_options={**supported_options("cpu")})


def measure_case(name: str, size: int, devices: int, remat: bool) -> dict[str, Any]:
    """The memory on each device, in bytes, for one network, size of image and number of devices."""
    compiled = compile_step(jnst.make_backbone(name, remat=remat), size, devices)
    return {
        "backbone": name,
        "size": size,
        "devices": devices,
        "remat": remat,
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "total_bytes": needed_bytes(compiled),
    }


def main() -> None:
    """Print a row for every combination."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", nargs="+", default=["vgg19"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512], help="sides of the square image, in pixels")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    args = parser.parse_args()
    rows = [
        measure_case(name, size, devices, remat)
        for name in args.backbone
        for size in args.sizes
        for devices in args.devices
        for remat in (False, True)
    ]
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
