"""jnst: the programs that `jnst.transfer.stylize` runs, or with several images those of `jnst.stylize_batch`, step by step."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jnst
from benchmarks.networks import ImageArray, Network
from benchmarks.peers.settings import HISTORY, Settings, Step, make_run
from jnst.backbones import Backbone
from jnst.presets import Preset
from jnst.solve import run as optimize
from jnst.solve.optimizers import LBFGS, OPTIMIZERS, Adam
from jnst.transfer import lanes
from jnst.transfer.coarse_to_fine import initial
from jnst.transfer.fitting import TargetStore
from jnst.transfer.jobs import check_images, stylize_job
from jnst.transfer.pace import chunk_length
from jnst.transfer.plan import Job
from jnst.transfer.together import AXES
from jnst.types import Params


def network(params: Network, precision: str) -> tuple[Backbone, Params]:
    """VGG19 as far as there are parameters, and these on the device."""
    held = [f"{layer}/{part}" for layer, parts in params.items() for part in parts]
    backbone = jnst.make_backbone("vgg19", training="oxford", held=held, precision=precision)
    return backbone, jax.tree.map(jnp.asarray, params)


def preset(settings: Settings) -> Preset:
    """The published preset with the settings put in."""
    optimizers = {
        "adam": Adam(settings.learning_rate, b2=settings.b2),
        "lbfgs": LBFGS(memory_size=HISTORY),
        "lbfgs-waves": OPTIMIZERS["lbfgs-waves"](),
    }
    return jnst.preset(
        {"gram": "neural-style-pt", "wasserstein": "crowson"}[settings.statistic],
        content_layers=(settings.content_layer,),
        style_layers=settings.style_layers,
        content_weight=settings.content_weight,
        style_weight=settings.style_weight,
        style_layer_weights=settings.style_layer_weights,
        tv_weight=settings.tv_weight,
        pooling=settings.pooling,
        optimizer=optimizers[settings.optimizer],
        num_steps=(settings.steps,),
        average=settings.average,
        init="content",
        pyramid=None,
    )


def make_jobs(content: ImageArray, style: ImageArray, settings: Settings, backbone: Backbone) -> list[Job]:
    """A job for every image."""
    contents, styles = (each.reshape(-1, *each.shape[-3:]) for each in (content, style))
    return [
        stylize_job(check_images(jnp.asarray(one), jnp.asarray(other)), preset(settings), backbone)
        for one, other in zip(contents, styles, strict=True)
    ]


def prepare(
    content: ImageArray, style: ImageArray, settings: Settings, precision: str = "float32", optimizer: str | None = None
) -> Step:
    """The step: on CPUs one, on accelerators as many as `jnst.transfer.stylize` compiles into one program there.

    ``optimizer`` is another than the settings'.
    """
    settings = dataclasses.replace(settings, optimizer=optimizer or settings.optimizer)
    backbone, params = network(settings.params, precision)
    jobs, store = make_jobs(content, style, settings, backbone), TargetStore(limit=0)
    params = jobs[0].plan.backbone.lay_out(params)
    method = jobs[0].plan.scales[0].method
    given, targets = zip(*(store.at(job, 0, params) for job in jobs), strict=True)
    images = [initial(job, pictures) for job, pictures in zip(jobs, given, strict=True)]
    objectives = [job.plan.scales[0].objective for job in jobs]
    length = chunk_length(images[0])
    if len(jobs) == 1:
        state = optimize.start(images[0], method)
        args = (objectives[0], targets[0], params, jobs[0].key)
        advance = partial(optimize.advance, args=args, method=method, length=length)
        shown = partial(optimize.image, method=method)
    else:
        state = lanes.start(jnp.stack(images), method)
        keys = jnp.stack([job.key for job in jobs])
        args = (lanes.stack(objectives), lanes.stack(targets), params, keys)
        advance = partial(lanes.advance, args=args, method=method, length=length, axes=AXES)
        shown = jax.vmap(partial(optimize.image, method=method))
    held: list[Any] = [state]

    def step() -> list[float]:
        held[0], (total, parts) = advance(held[0])
        total, _ = jax.device_get((total, parts))
        jax.block_until_ready(held[0])
        return np.atleast_2d(total).sum(0).tolist()

    return Step(step, lambda: np.asarray(shown(held[0])).reshape(np.shape(content)), length)


run = make_run(prepare)
