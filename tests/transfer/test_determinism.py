"""The same bits at every run: which operations GPU programs may contain, and what CPUs compute in two processes."""

import hashlib
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_params, tiny_backbone

import jnst
from jnst.backbones import BACKBONES
from jnst.losses import STYLE_LOSSES
from jnst.transfer.inputs import check_inputs
from jnst.transfer.plan import make_job
from jnst.transfer.target_store import target_shapes

IMAGE = jnp.full((40, 36, 3), 0.5)
ATOMIC = ("select_and_scatter",)
"""Operations that GPUs compute in the order in which threads happen to run, and for which XLA knows no other way."""


def for_gpus(function: Any, *args: Any) -> str:
    """The program that XLA would get for an NVIDIA GPU; no GPU is needed."""
    return jax.jit(function).trace(*args).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("statistic", STYLE_LOSSES)
def test_no_statistic_depends_on_the_order_of_threads(statistic: str) -> None:
    backbone = tiny_backbone()
    layers = {"content_layers": ("relu2_1",), "style_layers": ("relu1_1", "relu2_1")}
    settings = jnst.preset("jnst", style_statistic=statistic, pyramid=None, **layers)
    job = make_job(check_inputs(IMAGE, IMAGE), settings, backbone)
    params = jax.eval_shape(job.plan.backbone.prepare, random_params(backbone))
    args = (job.plan.scales[0].objective, target_shapes(job, 0, params), params, job.key)
    loss = jax.value_and_grad(jnst.transfer_loss(job.plan.backbone), has_aux=True)
    text = for_gpus(
        lambda image, args: loss(image, args, jnp.int32(0)), jax.ShapeDtypeStruct(IMAGE.shape, jnp.float32), args
    )
    assert "convolution" in text
    assert not any(name in text for name in ATOMIC)


@pytest.mark.parametrize("name", [name for name in BACKBONES if name not in ("resnet101", "resnet152")])
def test_no_network_does_either(name: str) -> None:
    """With the pooling that it was trained with, whose gradient is the usual cause. The blocks of deeper ResNets are
    those of ResNet-50."""
    backbone = jnst.make_backbone(name)
    params = jax.eval_shape(backbone.init, jax.random.key(0))
    layer = backbone.all_layers[-1]
    total = lambda image, params: backbone.apply(params, image, (layer,))[layer].sum()  # noqa: E731
    text = for_gpus(jax.grad(total), jax.ShapeDtypeStruct((64, 64, 3), jnp.float32), params)
    assert "convolution" in text
    assert not any(name in text for name in ATOMIC)


def test_the_usual_pooling_would_be_found() -> None:
    pool = lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2, 2), (2, 2), "VALID").sum()  # noqa: E731
    assert ATOMIC[0] in for_gpus(jax.grad(pool), jax.ShapeDtypeStruct((8, 8), jnp.float32))


PROGRAM = """
import hashlib
import numpy as np
import jnst
rows, columns = np.mgrid[0:40, 0:36] / 40
content = np.stack([rows, columns, 0.5 + 0.3 * np.sin(9 * columns)], -1).astype(np.float32)
solution = jnst.stylize(content, content[::-1].copy(), num_steps=4, init="noise")
parts = [solution.losses, *solution.parts.values(), np.asarray(solution.image)]
print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
"""


def test_cpus_compute_the_same_bits_here_again_and_in_another_process() -> None:
    rows, columns = np.mgrid[0:40, 0:36] / 40
    content = jnp.asarray(np.stack([rows, columns, 0.5 + 0.3 * np.sin(9 * columns)], -1), jnp.float32)

    def digest(**arguments: Any) -> str:
        solution = jnst.stylize(content, content[::-1], num_steps=4, init="noise", **arguments)
        parts = [solution.losses, *solution.parts.values(), np.asarray(solution.image)]
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()

    here = digest()
    assert digest() == here
    assert digest(key=jax.random.key(1)) != here
    there = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=600)
    assert there.stdout.strip() == here
