"""Neural style transfer and perceptual losses as pure JAX functions."""

from typing import TYPE_CHECKING, Any

from jnst import starting

if starting.is_command():
    starting.end_quietly_on_interruption()
    starting.replace_closed_streams()

# isort: split
from jnst import losses, presets
from jnst.backbones import BACKBONES, Backbone, Preprocessing, make_backbone
from jnst.checkpoint import SavedState, load_state, save_state
from jnst.compilation import keep_programs
from jnst.errors import JnstError, NumericsError, PictureError, ResourceError, WeightsError
from jnst.image import Pyramid, resize
from jnst.losses import Gram, SquaredError, TotalVariation, content_loss, style_loss, total_variation
from jnst.metrics import (
    LPIPS,
    content_distance,
    content_distances,
    load_lpips,
    lpips,
    ssim,
    style_distance,
    style_distances,
)
from jnst.objective import Objective, make_objective, total_loss
from jnst.optimizers import LBFGS, SGD, Adam, RMSprop
from jnst.parallel import local_mesh
from jnst.presets import Preset, preset, with_style_statistic
from jnst.statistics import gram_matrix
from jnst.stylize import Solution, reconstruct, stylize, synthesize
from jnst.stylize_many import Solutions, stylize_batch, stylize_grid, sweep
from jnst.targets import fit_targets
from jnst.weights.load import load_backbone

if TYPE_CHECKING:
    from jnst.io import load_image, save_image

__version__ = "0.1.0"

__all__ = [
    "BACKBONES",
    "LBFGS",
    "LPIPS",
    "SGD",
    "Adam",
    "Backbone",
    "Gram",
    "JnstError",
    "NumericsError",
    "Objective",
    "PictureError",
    "Preprocessing",
    "Preset",
    "Pyramid",
    "RMSprop",
    "ResourceError",
    "SavedState",
    "Solution",
    "Solutions",
    "SquaredError",
    "TotalVariation",
    "WeightsError",
    "content_distance",
    "content_distances",
    "content_loss",
    "fit_targets",
    "gram_matrix",
    "keep_programs",
    "load_backbone",
    "load_image",
    "load_lpips",
    "load_state",
    "local_mesh",
    "losses",
    "lpips",
    "make_backbone",
    "make_objective",
    "preset",
    "presets",
    "reconstruct",
    "resize",
    "save_image",
    "save_state",
    "ssim",
    "style_distance",
    "style_distances",
    "style_loss",
    "stylize",
    "stylize_batch",
    "stylize_grid",
    "sweep",
    "synthesize",
    "total_loss",
    "total_variation",
    "with_style_statistic",
]


def __getattr__(name: str) -> Any:
    # Pillow is loaded with the first picture, not with the package.
    if name in ("load_image", "save_image"):
        import jnst.io

        return getattr(jnst.io, name)
    raise AttributeError(f"module 'jnst' has no attribute {name!r}")
