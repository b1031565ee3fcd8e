"""Neural style transfer and perceptual losses as pure JAX functions."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jnst import losses, presets
from jnst.backbones import BACKBONES, Backbone, Preprocessing, make_backbone
from jnst.errors import ImageError, JnstError, NumericsError, ResourceError, WeightsError
from jnst.images import Pyramid, resize
from jnst.losses import Gram, SquaredError, TotalVariation, content_loss, style_loss, total_variation
from jnst.losses.objective import Objective, make_objective, total_loss
from jnst.losses.targets import fit_targets
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
from jnst.presets import Preset, preset, with_style_statistic
from jnst.solve.compilation import keep_programs
from jnst.solve.devices import local_mesh
from jnst.solve.optimizers import LBFGS, SGD, Adam, RMSprop
from jnst.statistics import gram_matrix
from jnst.transfer.stylize import Solution, reconstruct, stylize, synthesize
from jnst.transfer.stylize_many import Solutions, stylize_batch, stylize_grid, sweep
from jnst.weights.load import load_backbone

if TYPE_CHECKING:
    from jnst.apps.checkpoint import SavedState, load_state, save_state
    from jnst.apps.io import load_image, save_image

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
    "ImageError",
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


_APPS = {
    "SavedState": "checkpoint",
    "load_image": "io",
    "load_state": "checkpoint",
    "save_image": "io",
    "save_state": "checkpoint",
}


def __getattr__(name: str) -> Any:
    # Files belong to the applications, which are imported on first use.
    if name in _APPS:
        return getattr(import_module(f"jnst.apps.{_APPS[name]}"), name)
    raise AttributeError(f"module 'jnst' has no attribute {name!r}")
