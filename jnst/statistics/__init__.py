"""Statistics of features, as pure functions with any leading axes."""

from jnst.statistics.correlations import cross_gram_matrix, shifted_gram_matrix
from jnst.statistics.distances import DISTANCES, cosine_distances, nearest_rows, normalize_rows, squared_distances
from jnst.statistics.distributions import directions, quantiles, transport, weighted_set
from jnst.statistics.hypercolumn import hypercolumns
from jnst.statistics.moments import (
    GRAM_NORMALIZATIONS,
    GramSums,
    Scatter,
    covariance,
    flatten_positions,
    gram_from_sums,
    gram_matrix,
    gram_sums,
    mean_covariance,
    mean_std,
    mean_weight,
    merge,
    moments_from_scatter,
    safe_sqrt,
    scatter,
    unit_mean,
)
from jnst.statistics.neighbourhoods import average_pool, differences, laplacian, windows, wrap_border
from jnst.statistics.patch_search import nearest_patches, patches
from jnst.statistics.sampling import draw_positions
from jnst.statistics.square_root import matrix_square_root, root_fidelity

__all__ = [
    "DISTANCES",
    "GRAM_NORMALIZATIONS",
    "GramSums",
    "Scatter",
    "average_pool",
    "cosine_distances",
    "covariance",
    "cross_gram_matrix",
    "differences",
    "directions",
    "draw_positions",
    "flatten_positions",
    "gram_from_sums",
    "gram_matrix",
    "gram_sums",
    "hypercolumns",
    "laplacian",
    "matrix_square_root",
    "mean_covariance",
    "mean_std",
    "mean_weight",
    "merge",
    "moments_from_scatter",
    "nearest_patches",
    "nearest_rows",
    "normalize_rows",
    "patches",
    "quantiles",
    "root_fidelity",
    "safe_sqrt",
    "scatter",
    "shifted_gram_matrix",
    "squared_distances",
    "transport",
    "unit_mean",
    "weighted_set",
    "windows",
    "wrap_border",
]
