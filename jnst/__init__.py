"""Neural style transfer and perceptual losses as pure JAX functions."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jnst import losses, presets, solve
from jnst.backbones import BACKBONES, Backbone, Preprocessing, make_backbone
from jnst.errors import ArgumentError, ImageError, JnstError, NumericsError, ResourceError, WeightsError
from jnst.images import Pyramid, demo_images, random_crops, resize, rgb_groups
from jnst.losses import Gram, SquaredError, TotalVariation, content_loss, style_loss, total_variation
from jnst.losses.objective import Objective, Targets, TransferArgs, make_objective, total_loss, transfer_loss
from jnst.losses.perceptual import PerceptualLoss
from jnst.losses.targets import fit_content, fit_style, fit_targets
from jnst.metrics import (
    DISTS,
    LPIPS,
    content_distance,
    content_distances,
    dists,
    load_dists,
    load_lpips,
    lpips,
    lpips_map,
    ms_ssim,
    ssim,
    style_distance,
    style_distances,
)
from jnst.presets import Preset, preset
from jnst.solve import LBFGS, SGD, Adam, RMSprop, Solution, Solver, keep_programs, local_mesh
from jnst.statistics import gram_matrix
from jnst.transfer import Compiling, Report, reconstruct, stylize, stylize_batch, stylize_grid, sweep, synthesize
from jnst.transfer.network import StyleNetwork
from jnst.transfer.network_files import load_style_network, save_style_network
from jnst.weights.load import load_backbone

if TYPE_CHECKING:
    from jnst.apps.checkpoint import load_state, save_state
    from jnst.apps.io import load_image, save_image

__version__ = "0.2.0"

__all__ = [
    "BACKBONES",
    "DISTS",
    "LBFGS",
    "LPIPS",
    "SGD",
    "Adam",
    "ArgumentError",
    "Backbone",
    "Compiling",
    "Gram",
    "ImageError",
    "JnstError",
    "NumericsError",
    "Objective",
    "PerceptualLoss",
    "Preprocessing",
    "Preset",
    "Pyramid",
    "RMSprop",
    "Report",
    "ResourceError",
    "Solution",
    "Solver",
    "SquaredError",
    "StyleNetwork",
    "Targets",
    "TotalVariation",
    "TransferArgs",
    "WeightsError",
    "content_distance",
    "content_distances",
    "content_loss",
    "demo_images",
    "dists",
    "fit_content",
    "fit_style",
    "fit_targets",
    "gram_matrix",
    "keep_programs",
    "load_backbone",
    "load_dists",
    "load_image",
    "load_lpips",
    "load_state",
    "load_style_network",
    "local_mesh",
    "losses",
    "lpips",
    "lpips_map",
    "make_backbone",
    "make_objective",
    "ms_ssim",
    "preset",
    "presets",
    "random_crops",
    "reconstruct",
    "resize",
    "rgb_groups",
    "save_image",
    "save_state",
    "save_style_network",
    "solve",
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
    "transfer_loss",
]

_FILES = {"load_image": "io", "save_image": "io", "load_state": "checkpoint", "save_state": "checkpoint"}


def __getattr__(name: str) -> Any:
    # Files belong to the applications, which are imported on first use only.
    if name in _FILES:
        return getattr(import_module(f"jnst.apps.{_FILES[name]}"), name)
    raise AttributeError(f"module 'jnst' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
