"""Colour transfer: the luminance of one image with the chroma of another, and matching of means and covariances."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jnst.errors import ArgumentError, ImageError
from jnst.images.colour_spaces import COLOUR_SPACES, ColourSpace, yiq_from_rgb
from jnst.types import Array, Image, Matrix

CHROMA_TOLERANCE = 1e-3
"""How much chroma may change when a colour just outside sRGB is clipped, in the units of the colour space."""
BISECTIONS = 24
"""Bisection steps to the border of the gamut: they leave 1e-5 of a lightness of 100."""
LUMINANCE_RIDGE = 1e-8
"""Added to variances of luminance: a standard deviation of 0.0001."""
COLOUR_RIDGE = 1e-7
"""Added to the variance in each direction of colour: a standard deviation of 0.0003, a tenth of a step of 8 bits."""

_product = partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def luminance(image: Image) -> Array:
    """Y of YIQ, ``0.299 R + 0.587 G + 0.114 B`` (Rec. 601): ``(..., h, w)`` in float32, in [0, 1]."""
    return yiq_from_rgb(image)[..., 0]


def transfer_luminance(image: Image, content: Image, space: str = "yiq") -> Image:
    """Combine the luminance of ``image`` with the chroma of ``content``.

    Chroma is preserved. Where sRGB has no colour of this chroma and luminance, the luminance moves from the content's
    own towards that of ``image`` as far as the gamut allows.

    Args:
        image: ``(..., h, w, 3)`` in [0, 1].
        content: The same height and width; leading axes broadcast.
        space: A key of `COLOUR_SPACES`: ``"yiq"`` as published.

    Returns:
        ``(..., h, w, 3)`` in [0, 1], in float32. Except for ``"yiq"``, the border of the gamut is constant in the
        gradient.

    Raises:
        ArgumentError: Unknown colour space.
        ImageError: Images of different sizes.

    References:
        Gatys, Bethge, Hertzmann & Shechtman, Preserving Color in Neural Artistic Style Transfer, 2016,
        arXiv:1606.05897, section 3; Hertzmann, Algorithms for Rendering in Artistic Styles, 2001.
    """
    if space not in COLOUR_SPACES:
        raise ArgumentError(f"colour space {space!r} is unknown: choose one of {', '.join(COLOUR_SPACES)}")
    if image.shape[-3:] != content.shape[-3:]:
        raise ImageError(
            f"`image` has shape {tuple(image.shape)}, `content` {tuple(content.shape)}, expected the same size: "
            "use jnst.resize"
        )
    row, content = COLOUR_SPACES[space], content.astype(jnp.float32)
    own, wanted = row.from_rgb(content), row.from_rgb(image)[..., 0]
    if row.additive:
        lowest, highest = -jnp.min(content, -1), 1.0 - jnp.max(content, -1)
        moved = content + jnp.clip(wanted - own[..., 0], lowest, highest)[..., None]
    else:
        moved = row.to_rgb(_with_luminance(own, _nearest_luminance(row, own, wanted)))
    return jnp.clip(moved, 0.0, 1.0)


def _with_luminance(values: Array, lightness: Array) -> Array:
    values = jnp.broadcast_to(values, (*lightness.shape, 3))
    return jnp.concatenate([lightness[..., None], values[..., 1:]], -1)


def _nearest_luminance(row: ColourSpace, own: Array, wanted: Array) -> Array:
    """Bisect between a colour's own luminance, which is in the gamut, and the wanted one."""
    start, goal, own = (lax.stop_gradient(array) for array in (own[..., 0], wanted, own))
    start, goal = jnp.broadcast_arrays(start, goal)

    def in_gamut(part: Array) -> Array:
        rgb = row.to_rgb(_with_luminance(own, start + part * (goal - start)))
        # Compare chroma, not RGB values: near black, chroma changes with the cube root of the distance from [0, 1].
        change = row.from_rgb(jnp.clip(rgb, 0.0, 1.0)) - own
        return jnp.all(jnp.abs(change[..., 1:]) <= CHROMA_TOLERANCE, -1)

    def bisect(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        inside, outside = bounds
        middle = 0.5 * (inside + outside)
        fits = in_gamut(middle)
        return jnp.where(fits, middle, inside), jnp.where(fits, outside, middle)

    inside, _ = lax.fori_loop(0, BISECTIONS, bisect, (jnp.zeros_like(start), jnp.ones_like(start)))
    return jnp.where(in_gamut(jnp.ones_like(start)), wanted, start + inside * (goal - start))


def match_luminance(style: Image, content: Image, *, clip: bool = True) -> Image:
    """Make a style grey, with the content's mean and standard deviation of luminance, for transfer of luminance alone.

    ``L' = (L - mean(L)) std(L_content) / std(L) + mean(L_content)``

    Args:
        style: ``(..., h, w, 3)`` in [0, 1].
        content: ``(..., h', w', 3)`` in [0, 1]; leading axes broadcast.
        clip: Whether to clip the result to [0, 1]. Without clipping, mean and standard deviation are the content's.

    Returns:
        ``(..., h, w, 3)`` in float32, with three equal channels. A style of constant luminance gets the content's
        mean.

    References:
        Gatys, Ecker, Bethge, Hertzmann & Shechtman, Controlling Perceptual Factors in Neural Style Transfer, CVPR 2017,
        section 5.1.
    """
    own, goal = luminance(style), luminance(content)
    means = [jnp.mean(values, (-2, -1), keepdims=True) for values in (own, goal)]
    variances = [jnp.var(values, (-2, -1), keepdims=True) + LUMINANCE_RIDGE for values in (own, goal)]
    matched = (own - means[0]) * jnp.sqrt(variances[1] / variances[0]) + means[1]
    grey = jnp.repeat(matched[..., None], 3, -1)
    return jnp.clip(grey, 0.0, 1.0) if clip else grey


def match_histogram(source: Image, target: Image, method: str = "symmetric", *, clip: bool = True) -> Image:
    """Map the colours of an image linearly so that their mean and covariance become those of another image.

    ``x' = A (x - mean(source)) + mean(target)``

    Args:
        source: ``(..., h, w, 3)`` in [0, 1].
        target: ``(..., h', w', 3)`` in [0, 1]; leading axes broadcast.
        method: A key of `COLOUR_MAPS`.
        clip: Whether to clip the result to [0, 1]. Without clipping, mean and covariance are the target's, except
            in directions in which the source hardly varies (see `COLOUR_RIDGE`): a grey image keeps its colours on a
            line.

    Returns:
        ``(..., h, w, 3)`` in float32.

    Raises:
        ArgumentError: Unknown method.

    References:
        Gatys, Bethge, Hertzmann & Shechtman, Preserving Color in Neural Artistic Style Transfer, 2016,
        arXiv:1606.05897 (``"cholesky"``, and ``"pca"`` from Hertzmann et al., Image Analogies, SIGGRAPH 2001); Pitié &
        Kokaram, The Linear Monge-Kantorovitch Linear Colour Mapping, CVMP 2007 (``"symmetric"``).
    """
    if method not in COLOUR_MAPS:
        raise ArgumentError(f"method {method!r} is unknown: choose one of {', '.join(COLOUR_MAPS)}")
    (mean, covariance), (goal_mean, goal_covariance) = _moments(source), _moments(target)
    matrix = COLOUR_MAPS[method](covariance, goal_covariance)[..., None, :, :]
    mapped = _product(source.astype(jnp.float32) - mean, jnp.swapaxes(matrix, -1, -2)) + goal_mean
    return jnp.clip(mapped, 0.0, 1.0) if clip else mapped


def _moments(image: Image) -> tuple[Array, Matrix]:
    """The mean ``(..., 1, 1, 3)`` and the regularised covariance ``(..., 3, 3)`` of the colours."""
    image = image.astype(jnp.float32)
    mean = jnp.mean(image, (-3, -2), keepdims=True)
    products = jnp.einsum("...hwi,...hwj->...ij", image - mean, image - mean, precision=lax.Precision.HIGHEST)
    return mean, products / (image.shape[-3] * image.shape[-2]) + COLOUR_RIDGE * jnp.eye(3, dtype=jnp.float32)


@jax.custom_jvp
def _square_root(matrix: Matrix) -> Matrix:
    """The symmetric square root of a positive semi-definite matrix."""
    values, vectors = jnp.linalg.eigh(matrix)
    return _product(vectors * jnp.sqrt(jnp.maximum(values, 0.0))[..., None, :], jnp.swapaxes(vectors, -1, -2))


@_square_root.defjvp
def _square_root_jvp(primals: tuple[Matrix], tangents: tuple[Matrix]) -> tuple[Matrix, Matrix]:
    # Solve dS S + S dS = dM, which follows from S S = M, entry by entry in the basis of the eigenvectors. Unlike the
    # derivatives of the eigenvectors, the solution is finite where eigenvalues are equal.
    values, vectors = jnp.linalg.eigh(primals[0])
    roots = jnp.sqrt(jnp.maximum(values, 0.0))
    sums = jnp.maximum(roots[..., :, None] + roots[..., None, :], COLOUR_RIDGE)
    change = _in_basis(jnp.swapaxes(vectors, -1, -2), _in_basis(vectors, tangents[0]) / sums)
    return _square_root(primals[0]), change


def _in_basis(vectors: Matrix, matrix: Matrix) -> Matrix:
    return _product(_product(jnp.swapaxes(vectors, -1, -2), matrix), vectors)


def _cholesky(source: Matrix, target: Matrix) -> Matrix:
    return _product(jnp.linalg.cholesky(target), jnp.linalg.inv(jnp.linalg.cholesky(source)))


def _pca(source: Matrix, target: Matrix) -> Matrix:
    return _product(_square_root(target), jnp.linalg.inv(_square_root(source)))


def _symmetric(source: Matrix, target: Matrix) -> Matrix:
    root = _square_root(source)
    return _in_basis(jnp.linalg.inv(root), _square_root(_in_basis(root, target)))


COLOUR_MAPS: dict[str, Callable[[Matrix, Matrix], Matrix]] = {
    "cholesky": _cholesky,
    "pca": _pca,
    "symmetric": _symmetric,
}
"""Matrices A with ``A S Aᵀ = T`` for covariances S and T: from Cholesky factors (``L_T L_S⁻¹``), from symmetric square
roots (``T^½ S^-½``), and the symmetric one ``S^-½ (S^½ T S^½)^½ S^-½``, which changes colours least."""
