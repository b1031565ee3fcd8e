"""Batches and one large image on one device and over eight; prints what differs as JSON."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from contracts import compilations, random_image, random_params, tiny_backbone

import jnst
from jnst.solve import run as optimize
from jnst.solve.devices import needed_bytes, rows, split_images
from jnst.transfer import lanes
from jnst.transfer.jobs import check_images, stylize_job
from jnst.transfer.memory import target_shapes
from jnst.transfer.plan import divided


def batch() -> dict[str, Any]:
    """Ten images, which eight devices cannot share evenly, through a pyramid; one of them meets NaN."""
    backbone = tiny_backbone()
    params = random_params(backbone)
    preset = jnst.preset(style_weight=10.0, optimizer=jnst.LBFGS(memory_size=4), num_steps=(3, 2))
    preset = jnst.preset(preset, pyramid=jnst.Pyramid(min_size=16))
    contents, styles = [random_image(seed, 24, 20) for seed in (1, 2)], [random_image(3, 18, 26)]
    over = {"learning_rate": (1.0, 0.5, 1e38, 0.25, 0.1)}
    arguments: Any = {"backbone": backbone, "preset": preset, "over": over, "init": "noise"}
    runs = [jnst.stylize_grid(contents, styles, params, mesh=mesh, **arguments) for mesh in (None, jnst.local_mesh())]
    one, eight = (jax.tree.map(np.asarray, run) for run in runs)
    arguments["over"] = {"learning_rate": (1.0, 0.5, 1.0, 0.25, 0.1)}
    pair = jnst.local_mesh(jax.local_devices()[:2])
    two = jnst.stylize_grid(contents, styles, params, mesh=pair, width=2, **arguments).losses
    return {
        "image": float(np.abs(one.image - eight.image).max()),
        "loss": float(np.nanmax(np.abs(one.losses - eight.losses) / one.losses)),
        "finite": [one.finite.tolist(), eight.finite.tolist()],
        "programs": compilations(lanes.advance),
        "width": float(np.abs(one.losses[..., 0] / two[..., 0] - 1).max()),
    }


def image() -> dict[str, Any]:
    """An image of 1024 x 1024, and one whose height eight does not divide; gradient descent amplifies no rounding."""
    backbone = tiny_backbone()
    params = random_params(backbone)
    settings = jnst.preset("jnst", pyramid=None, num_steps=(2,), style_weight=10.0)
    differences = {}
    for height, side in ((1024, 1024), (50, 64)):
        content = jnst.resize(jnp.asarray(random_image(1, 16, 16)), (height, side))
        arguments: Any = {"backbone": backbone, "preset": settings, "optimizer": optax.sgd(1.0), "init": "content"}
        one = jnst.transfer.stylize(content, random_image(2, 64, 64), params, **arguments)
        eight = jnst.transfer.stylize(content, random_image(2, 64, 64), params, mesh=jnst.local_mesh(), **arguments)
        moved = np.abs(np.asarray(one.image) - np.asarray(content)).max()
        differences[f"{height}x{side}"] = {
            "moved": float(moved),
            "image": float(np.abs(np.asarray(one.image) - np.asarray(eight.image)).max()),
            "loss": float(np.abs(one.losses / eight.losses - 1).max()),
        }
    return differences


def memory() -> list[int]:
    """Bytes on each device of a step at 1024 x 1024, whole and divided."""
    backbone = tiny_backbone()
    params = random_params(backbone)
    content = jnp.full((1024, 1024, 3), 0.5)
    settings = jnst.preset("jnst", pyramid=None, num_steps=(1,), optimizer=jnst.Adam())
    job = stylize_job(check_images(content, content[:64, :64]), settings, backbone)
    needed = []
    for mesh in (None, jnst.local_mesh()):
        plan = job.plan if mesh is None else divided(job.plan, mesh)
        (scale,) = plan.scales
        state = optimize.start(content, scale.method)
        args = (
            scale.objective,
            jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), target_shapes(job, 0, params)),
            params,
            job.key,
        )
        if mesh is not None:
            state, args = split_images((state, args), mesh)
            assert state.image.sharding == rows(mesh)
        needed.append(needed_bytes(optimize.advance.lower(state, args, scale.method, 1).compile()))
    return needed


if __name__ == "__main__":
    assert jax.device_count() == 8
    print(json.dumps({"batch": batch(), "image": image(), "memory": memory()}))
