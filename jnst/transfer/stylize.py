"""`stylize`, `synthesize`, `reconstruct`: images by optimisation."""

from collections.abc import Sequence

from jax.sharding import Mesh

from jnst.apps.checkpoint import SavedState
from jnst.backbones import Backbone
from jnst.losses.objective import Objective
from jnst.presets import Preset
from jnst.solve import run as optimize
from jnst.solve.optimizers import Optimizer
from jnst.solve.run import RunState
from jnst.transfer.coarse_to_fine import Solution, carry_out
from jnst.transfer.jobs import check_images, network, reconstruct_job, settings_of, stylize_job, synthesize_job
from jnst.types import Guide, Image, Params, RandomKey

__all__ = ["RunState", "Solution", "reconstruct", "stylize", "synthesize"]


def stylize(
    content: Image,
    style: Image | Sequence[Image],
    params: Params | None = None,
    *,
    backbone: Backbone | None = None,
    preset: str | Preset = "jnst",
    objective: Objective | None = None,
    optimizer: Optimizer | None = None,
    num_steps: int | tuple[int, ...] | None = None,
    init: str | Image | None = None,
    size: int | None = None,
    style_weights: Sequence[float] | None = None,
    masks: Sequence[Guide] | None = None,
    style_masks: Sequence[Guide | None] | None = None,
    keep_color: str | None = None,
    key: RandomKey | None = None,
    state: RunState | SavedState | None = None,
    mesh: Mesh | None = None,
    chunk: int | None = None,
    callback: optimize.Callback | None = None,
) -> Solution:
    """Transfer the style of one image, or of several, to the content of another (Gatys et al., CVPR 2016).

    Args:
        content: ``(h, w, 3)`` sRGB in [0, 1].
        style: ``(h', w', 3)``, any size, or several such; how large its strokes become depends on its size.
        params: The network's parameters; None: the embedded network's.
        backbone: The network (static); None: the embedded one.
        preset: The settings; ``objective``, ``optimizer``, ``num_steps``, ``init`` and ``keep_color`` go before it
            when given.
        objective: What is minimised.
        optimizer: Any Optax transformation (for images in [0, 1]), or one of `jnst.solve.optimizers` in the preset's units.
        num_steps: Steps at each size of the pyramid; the last number holds for all further sizes.
        init: ``"content"``, ``"style"``, ``"noise"`` or an image ``(h, w, 3)``.
        size: The longer side of the result; the styles are reduced with it. None: the content image's own.
        style_weights: How much each style counts, in proportion, for a mixture of all; with ``masks``, in its region.
        masks: For each style ``(h, w)``, of the content's size, in [0, 1]: its region of the image. Soft edges blend,
            regions may overlap, and where none is, nothing asks for style.
        style_masks: For each style ``(h', w')``, of its size: which part of it counts; None for all of it.
        keep_color: A key of `jnst.images.keep_colour.KEEP_COLOUR`: how to keep the content's colours; None: not at all.
        key: For noise, and losses that draw at random; `jax.random.key(0)` if None.
        state: `Solution.state` of an earlier call like this, or `jnst.load_state`'s: the run goes on to ``num_steps``.
        mesh: Devices that share the image, each some of its rows (`jnst.local_mesh`): for one that is too large for a
            single device. Its height should be a multiple of their number.
        chunk: Steps in one compiled program; None chooses by device (1 on CPUs).
        callback: Called with an `optimize.Report` after every chunk; returning True ends the run.

    Raises:
        ImageError: An image that is not ``(h, w, 3)`` floats in [0, 1], or too small for a layer; a mask of another
            size than its image's.
        ArgumentError: An unknown name, or numbers that make no sense.
        WeightsError: A layer beyond the weights.
        NumericsError: The loss stopped being finite; its ``result`` is the `Solution` with the last finite image.
    """
    backbone, params = network(backbone, params)
    settings = settings_of(preset, num_steps, init, keep_color)
    images = check_images(content, style, style_weights, masks, style_masks)
    job = stylize_job(images, settings, backbone, objective, optimizer, init, key, size)
    return carry_out(job, params, state=state, mesh=mesh, chunk=chunk, callback=callback)


def synthesize(
    style: Image | Sequence[Image],
    shape: tuple[int, int] | None = None,
    params: Params | None = None,
    *,
    backbone: Backbone | None = None,
    preset: str | Preset = "jnst",
    objective: Objective | None = None,
    optimizer: Optimizer | None = None,
    num_steps: int | tuple[int, ...] | None = None,
    init: str | Image = "noise",
    style_weights: Sequence[float] | None = None,
    key: RandomKey | None = None,
    state: RunState | SavedState | None = None,
    mesh: Mesh | None = None,
    chunk: int | None = None,
    callback: optimize.Callback | None = None,
) -> Solution:
    """Make a texture: an image with a style and no content (Gatys, Ecker & Bethge, NeurIPS 2015).

    Args:
        style: ``(h', w', 3)`` in [0, 1], or several such.
        shape: Height and width of the texture; None: the (first) style's.
        params: As in `stylize`, like all that follow.
        backbone: See `stylize`.
        preset: Its content terms are left out.
        objective: See `stylize`.
        optimizer: See `stylize`.
        num_steps: See `stylize`.
        init: ``"noise"``, ``"style"`` (resized) or an image.
        style_weights: See `stylize`.
        key: See `stylize`; another key, another texture.
        state: See `stylize`.
        mesh: See `stylize`.
        chunk: See `stylize`.
        callback: See `stylize`.

    Raises:
        As `stylize`.
    """
    backbone, params = network(backbone, params)
    settings = settings_of(preset, num_steps, init)
    images = check_images(None, style, style_weights)
    job = synthesize_job(images, shape, settings, backbone, objective, optimizer, init, key)
    return carry_out(job, params, state=state, mesh=mesh, chunk=chunk, callback=callback)


def reconstruct(
    content: Image,
    layers: Sequence[str] | None = None,
    params: Params | None = None,
    *,
    backbone: Backbone | None = None,
    preset: str | Preset = "jnst",
    objective: Objective | None = None,
    optimizer: Optimizer | None = None,
    num_steps: int | tuple[int, ...] | None = None,
    init: str | Image = "noise",
    size: int | None = None,
    key: RandomKey | None = None,
    state: RunState | SavedState | None = None,
    mesh: Mesh | None = None,
    chunk: int | None = None,
    callback: optimize.Callback | None = None,
) -> Solution:
    """Show what layers keep of an image: another one with the same features (Mahendran & Vedaldi, CVPR 2015).

    Args:
        content: ``(h, w, 3)`` in [0, 1].
        layers: Which features are kept; None: the preset's content layers.
        params: As in `stylize`, like all that follow.
        backbone: See `stylize`.
        preset: Its style terms are left out.
        objective: See `stylize`.
        optimizer: See `stylize`.
        num_steps: See `stylize`.
        init: ``"noise"`` or an image.
        size: See `stylize`.
        key: See `stylize`.
        state: See `stylize`.
        mesh: See `stylize`.
        chunk: See `stylize`.
        callback: See `stylize`.

    Raises:
        As `stylize`.
    """
    backbone, params = network(backbone, params)
    settings = settings_of(preset, num_steps, init)
    job = reconstruct_job(content, layers, settings, backbone, objective, optimizer, init, key, size)
    return carry_out(job, params, state=state, mesh=mesh, chunk=chunk, callback=callback)
