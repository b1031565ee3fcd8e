"""jnst: the compiled steps of `jnst.stylize`, or for a batch those of `jnst.stylize_batch`."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import jnst
from benchmarks.networks import ImageArray, Network
from benchmarks.peers.interface import HISTORY, Settings, Step
from jnst.backbones import Backbone
from jnst.presets import Preset
from jnst.solve.devices import platform_of
from jnst.solve.driver import CHUNK, lower_steps, start_runs
from jnst.solve.optimizers import LBFGS, OPTIMIZERS, Adam
from jnst.solve.solver import as_program, result
from jnst.transfer.inputs import check_inputs
from jnst.transfer.plan import Job, initial_image, make_job
from jnst.transfer.stages import AXES, stack
from jnst.transfer.target_store import TargetStore
from jnst.types import Params


def network(params: Network, precision: str) -> tuple[Backbone, Params]:
    """VGG19 up to the last layer in ``params``, and its parameters on the device."""
    available = [f"{layer}/{part}" for layer, parts in params.items() for part in parts]
    backbone = jnst.make_backbone("vgg19", training="oxford", available=available, precision=precision)
    return backbone, jax.tree.map(jnp.asarray, params)


def preset(settings: Settings) -> Preset:
    """The published preset with these settings."""
    optimizers = {
        "adam": Adam(settings.learning_rate, b2=settings.b2),
        "lbfgs": LBFGS(memory_size=HISTORY),
        "lbfgs-fourier": OPTIMIZERS["lbfgs-fourier"](),
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
        num_steps=settings.steps,
        average=settings.average,
        init="content",
        pyramid=None,
    )


def make_jobs(content: ImageArray, style: ImageArray, settings: Settings, backbone: Backbone) -> list[Job]:
    """One job for each image."""
    contents, styles = (each.reshape(-1, *each.shape[-3:]) for each in (content, style))
    return [
        make_job(check_inputs(jnp.asarray(one), jnp.asarray(other)), preset(settings), backbone)
        for one, other in zip(contents, styles, strict=True)
    ]


def prepare(
    content: ImageArray, style: ImageArray, settings: Settings, precision: str = "float32", optimizer: str | None = None
) -> Step:
    """Prepare a run: one step at a time on CPUs; on accelerators as many as `jnst.stylize` makes in one program.

    Args:
        content: ``(h, w, 3)`` in [0, 1], or a batch of such images.
        style: Likewise.
        settings: What to minimise, and how.
        precision: The network's.
        optimizer: Used instead of `Settings.optimizer`.
    """
    settings = dataclasses.replace(settings, optimizer=optimizer or settings.optimizer)
    backbone, params = network(settings.params, precision)
    jobs, store = make_jobs(content, style, settings, backbone), TargetStore(limit=0)
    plan, scale = jobs[0].plan, jobs[0].plan.scales[0]
    params = plan.backbone.prepare(params)
    inputs, targets = zip(*(store.at(job, 0, params) for job in jobs), strict=True)
    images = [initial_image(job, own) for job, own in zip(jobs, inputs, strict=True)]
    keys = [jax.random.fold_in(job.key, 0) for job in jobs]
    program = as_program(jnst.transfer_loss(plan.backbone), scale.solver, images[0])
    result_of = partial(result, solver=scale.solver)
    if len(jobs) == 1:
        axes, image, show = None, images[0], result_of
        args = jnst.TransferArgs(scale.objective, targets[0], params, keys[0])
    else:
        axes, image, show = AXES, jnp.stack(images), jax.vmap(result_of)
        program = stack([program] * len(jobs))
        objectives = [job.plan.scales[0].objective for job in jobs]
        args = jnst.TransferArgs(stack(objectives), stack(targets), params, jnp.stack(keys))
    state = start_runs(program, image, axes)
    make_steps = lower_steps(program, state, args, axes=axes).compile()
    length = 1 if platform_of(args) == "cpu" else CHUNK

    def advance() -> list[float]:
        nonlocal state
        state, (losses, parts) = make_steps(state, program, args, np.int32(length))
        losses, _, _ = jax.device_get((losses, parts, state.running))
        jax.block_until_ready(state)
        return np.atleast_2d(losses).sum(0).tolist()

    return Step(advance, lambda: np.asarray(show(state)).reshape(np.shape(content)), length)
