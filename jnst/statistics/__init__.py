"""Statistics of features, as pure functions over any leading axes, accumulated in float32."""

from jnst.statistics.moments import GRAM_NORMALIZATIONS, as_columns, gram_matrix, unit_mean

__all__ = ["GRAM_NORMALIZATIONS", "as_columns", "gram_matrix", "unit_mean"]
