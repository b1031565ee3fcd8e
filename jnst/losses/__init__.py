"""Losses, one per file, and the tables of them."""

from collections.abc import Callable

from jnst.losses.base import FeatureLoss, Regularizer, StyleLoss
from jnst.losses.combined import Sum
from jnst.losses.content import SquaredError, content_loss
from jnst.losses.contextual import Contextual, contextual_loss
from jnst.losses.covariance import Covariance, covariance_loss
from jnst.losses.cross_gram import CrossGram
from jnst.losses.gram import Gram, style_loss
from jnst.losses.histogram import Histogram, channel_quantiles, histogram_loss
from jnst.losses.laplacian import Laplacian, laplacian_energy
from jnst.losses.laplacian_content import LaplacianContent, laplacian_loss, pooled_laplacian
from jnst.losses.markov_random_field import MarkovRandomField, mrf_loss
from jnst.losses.mean_std import MeanStd, mean_std_loss
from jnst.losses.photorealism import Photorealism, affine_models, photorealism_loss
from jnst.losses.relative import Relative
from jnst.losses.relaxed_earth_mover import RelaxedEarthMover, relaxed_earth_movers_distance
from jnst.losses.self_similarity import HypercolumnSelfSimilarity, SelfSimilarity, self_similarity_loss
from jnst.losses.shifted_gram import ShiftedGram
from jnst.losses.sliced_wasserstein import SlicedWasserstein, sliced_wasserstein_loss
from jnst.losses.strotss import Strotss, moment_distance, strotss_style_loss
from jnst.losses.total_variation import TotalVariation, total_variation
from jnst.losses.wasserstein import Wasserstein, wasserstein_loss

__all__ = [
    "CONTENT_LOSSES",
    "REGULARIZERS",
    "STYLE_LOSSES",
    "Contextual",
    "Covariance",
    "CrossGram",
    "FeatureLoss",
    "Gram",
    "Histogram",
    "HypercolumnSelfSimilarity",
    "Laplacian",
    "LaplacianContent",
    "MarkovRandomField",
    "MeanStd",
    "Photorealism",
    "Regularizer",
    "Relative",
    "RelaxedEarthMover",
    "SelfSimilarity",
    "ShiftedGram",
    "SlicedWasserstein",
    "SquaredError",
    "Strotss",
    "StyleLoss",
    "Sum",
    "TotalVariation",
    "Wasserstein",
    "affine_models",
    "channel_quantiles",
    "content_loss",
    "contextual_loss",
    "covariance_loss",
    "histogram_loss",
    "laplacian_energy",
    "laplacian_loss",
    "mean_std_loss",
    "moment_distance",
    "mrf_loss",
    "photorealism_loss",
    "pooled_laplacian",
    "relaxed_earth_movers_distance",
    "self_similarity_loss",
    "sliced_wasserstein_loss",
    "strotss_style_loss",
    "style_loss",
    "total_variation",
    "wasserstein_loss",
]

CONTENT_LOSSES: dict[str, Callable[..., FeatureLoss]] = {
    "mse": SquaredError,
    "laplacian": LaplacianContent,
    "photorealism": Photorealism,
    "self-similarity": SelfSimilarity,
    "hypercolumn-self-similarity": HypercolumnSelfSimilarity,
}
STYLE_LOSSES: dict[str, Callable[..., StyleLoss]] = {
    "gram": Gram,
    "covariance": Covariance,
    "mean-std": MeanStd,
    "wasserstein": Wasserstein,
    "cross-gram": CrossGram,
    "shifted-gram": ShiftedGram,
    "sliced-wasserstein": SlicedWasserstein,
    "histogram": Histogram,
    "patches": MarkovRandomField,
    "contextual": Contextual,
    "remd": RelaxedEarthMover,
    "strotss": Strotss,
}
REGULARIZERS: dict[str, Callable[..., Regularizer]] = {"tv": TotalVariation, "laplacian": Laplacian}
