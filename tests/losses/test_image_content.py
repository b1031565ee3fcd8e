"""Losses between an image and the content image, against Laplacians of block averages and dense matting Laplacians."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_features, random_image
from losses import references
from losses.finite_differences import check_gradient

from jnst.errors import JnstError
from jnst.losses import LaplacianContent, Photorealism, affine_models, laplacian_loss, photorealism_loss
from jnst.statistics import average_pool

pytestmark = pytest.mark.usefixtures("unoptimised")

CONTENT, IMAGE = random_image(1, 7, 8), random_image(2, 7, 8)


def pooled(image: Any, size: int) -> Any:
    rows, columns = (range(0, side, size) for side in image.shape[:2])
    image = np.asarray(image, np.float64)
    return np.array([[image[y : y + size, x : x + size].mean((0, 1)) for x in columns] for y in rows])


def pooled_laplacian(image: Any, size: int) -> Any:
    frame = np.pad(pooled(image, size), ((1, 1), (1, 1), (0, 0)), mode="edge")
    return frame[:-2, 1:-1] + frame[2:, 1:-1] + frame[1:-1, :-2] + frame[1:-1, 2:] - 4 * frame[1:-1, 1:-1]


def laplacian_reference(image: Any, content: Any, size: int, sum_channels: bool, reduction: str) -> float:
    value, target = (pooled_laplacian(array, size) for array in (image, content))
    if sum_channels:
        value, target = value.sum(-1), target.sum(-1)
    return references.reduced(value - target, target, reduction)


def matting_laplacian(content: Any, radius: int, epsilon: float) -> Any:
    """Levin's L as a dense matrix over all pixels, summed over windows."""
    height, width, channels = content.shape
    side = 2 * radius + 1
    matrix, pixels = np.zeros((height * width,) * 2), np.arange(height * width).reshape(height, width)
    colours = np.asarray(content, np.float64).reshape(-1, channels)
    for y in range(height - side + 1):
        for x in range(width - side + 1):
            window = pixels[y : y + side, x : x + side].ravel()
            centred = colours[window] - colours[window].mean(0)
            covariance = centred.T @ centred / side**2 + epsilon / side**2 * np.eye(channels)
            affinities = (1 + centred @ np.linalg.solve(covariance, centred.T)) / side**2
            matrix[np.ix_(window, window)] += np.eye(side**2) - affinities
    return matrix


def energy(image: Any, matrix: Any) -> float:
    columns = np.asarray(image, np.float64).reshape(-1, image.shape[-1])
    return float(np.sum(columns * (matrix @ columns)))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_average_pool(size: int) -> None:
    np.testing.assert_allclose(average_pool(IMAGE, size), pooled(IMAGE, size), rtol=1e-5)


def test_average_pool_of_valid_positions() -> None:
    valid = np.ones((7, 8), bool)
    valid[:, 3:] = False
    value = average_pool(IMAGE, 2, jnp.asarray(valid))
    np.testing.assert_allclose(value[:, :2], pooled(IMAGE[:, :3], 2), rtol=1e-5)
    np.testing.assert_array_equal(value[:, 2:], jnp.zeros((4, 2, 3)))


@pytest.mark.parametrize(
    ("size", "sum_channels", "reduction"), [(1, False, "mean"), (2, True, "sum"), (4, False, "relative")]
)
def test_laplacian_content(size: int, sum_channels: bool, reduction: str) -> None:
    loss = LaplacianContent(size, sum_channels, reduction)
    value, gradient = jax.jit(jax.value_and_grad(loss.loss))(jnp.asarray(IMAGE), loss.fit(CONTENT))
    options = (size, sum_channels, reduction)
    np.testing.assert_allclose(value, laplacian_reference(IMAGE, CONTENT, *options), rtol=1e-5)
    check_gradient(gradient, lambda image: laplacian_reference(image, CONTENT, *options), IMAGE)


def test_laplacian_content_ignores_colour_and_shading() -> None:
    """A constant colour offset changes no difference between neighbours. A shift by one pixel changes many."""
    loss, content = LaplacianContent(2), random_image(1, 16, 16)
    target = loss.fit(content)
    np.testing.assert_allclose(loss.loss(content + np.asarray([0.3, -0.2, 0.1], np.float32), target), 0.0, atol=1e-12)
    assert float(loss.loss(np.roll(content, 1, axis=1), target)) > 1e-4


def test_laplacian_content_outside_the_guide() -> None:
    """As if the image ended at the guide's border."""
    guide: Any = np.zeros((7, 8), np.float32)
    guide[:, :5] = 0.5
    for pool in (1, 4):
        loss = LaplacianContent(pool)
        value, gradient = jax.jit(jax.value_and_grad(loss.loss))(jnp.asarray(IMAGE), loss.fit(CONTENT, guide), guide)
        np.testing.assert_array_equal(gradient[:, 5:], jnp.zeros((7, 3, 3)))
        elsewhere: Any = np.where(guide[..., None] > 0, IMAGE, 9.0)
        np.testing.assert_allclose(loss.loss(elsewhere, loss.fit(CONTENT, guide), guide), value, rtol=1e-6)
    loss = LaplacianContent(1)
    alone = loss.loss(IMAGE[:, :5], loss.fit(CONTENT[:, :5]))
    np.testing.assert_allclose(loss.loss(IMAGE, loss.fit(CONTENT, guide), guide), alone, rtol=1e-5)


def test_invalid_arguments_of_laplacian_content() -> None:
    with pytest.raises(JnstError, match=r"pool 0.*at least 1"):
        LaplacianContent(0)
    for sum_channels in (False, True):
        loss = LaplacianContent(2, sum_channels)
        with pytest.raises(JnstError, match=r"\(4, 4, 2\).*\(4, 4, 3\).*fit the target"):
            loss.loss(IMAGE[..., :2], loss.fit(CONTENT))
    with pytest.raises(JnstError, match=r"\(4, 4, 3\).*\(2, 2, 3\).*fit the target"):
        laplacian_loss(IMAGE, LaplacianContent(4).fit(CONTENT), 2)


@pytest.mark.parametrize(("radius", "epsilon"), [(1, 1e-7), (1, 1e-2), (2, 1e-7)])
def test_photorealism_is_the_energy_of_the_matting_laplacian(radius: int, epsilon: float) -> None:
    matrix = matting_laplacian(CONTENT, radius, epsilon)
    expected, windows = energy(IMAGE, matrix), (7 - 2 * radius) * (8 - 2 * radius)
    loss = Photorealism(radius, epsilon, "sum")
    value, gradient = jax.jit(jax.value_and_grad(loss.loss))(jnp.asarray(IMAGE), loss.fit(CONTENT))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    columns = IMAGE.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(np.reshape(gradient, (-1, 3)), 2 * matrix @ columns, atol=2e-5)
    check_gradient(gradient, lambda image: energy(image, matrix), IMAGE)
    mean = Photorealism(radius, epsilon)
    np.testing.assert_allclose(
        mean.loss(IMAGE, mean.fit(CONTENT)), expected / (windows * 3 * (2 * radius + 1) ** 2), rtol=1e-5
    )


def test_photorealism_of_a_batch_and_of_other_channels() -> None:
    content, image = random_features(1, 2, 6, 7, 4), random_features(2, 2, 6, 7, 4)
    loss = Photorealism(reduction="sum")
    expected = [energy(x, matting_laplacian(i, 1, 1e-7)) for x, i in zip(image, content, strict=True)]
    np.testing.assert_allclose(loss.loss(image, loss.fit(content)), expected, rtol=1e-5)


def test_photorealism_allows_other_colours_but_no_other_edges() -> None:
    """An affine map of colours costs at most ε|a|² per window; edges shifted by a pixel cost much more."""
    content = random_image(3, 24, 24)
    loss = Photorealism(reduction="sum")
    target = loss.fit(content)
    change = np.asarray([[0.8, 0.3, 0.0], [-0.5, 0.6, 0.2], [0.1, 0.0, 0.4]], np.float32)
    recoloured = content @ change + np.asarray([0.1, 0.2, -0.3], np.float32)
    assert 0 < float(loss.loss(recoloured, target)) <= 1.1 * 22 * 22 * 1e-7 * np.sum(change**2)
    assert float(loss.loss(np.roll(content, 1, axis=0), target)) > 1.0


@pytest.mark.parametrize("kind", ["grey", "flat", "half flat", "one edge"])
def test_photorealism_where_covariances_are_singular(kind: str) -> None:
    """8-bit content images without colour or without detail, in float32 against float64."""
    steps = np.round(255 * CONTENT) / 255
    content = {
        "grey": np.repeat(steps[..., :1], 3, axis=-1),
        "flat": np.full_like(steps, 200 / 255),
        "half flat": np.where(np.arange(8)[:, None] < 5, 200 / 255, steps),
        "one edge": np.repeat((np.arange(8) > 3).astype(np.float32)[None, :, None] * [0.9, 0.9, 0.9], 7, axis=0),
    }[kind].astype(np.float32)
    matrix = matting_laplacian(content, 1, 1e-7)
    loss = Photorealism(reduction="sum")
    value, gradient = jax.jit(jax.value_and_grad(loss.loss))(jnp.asarray(IMAGE), loss.fit(content))
    np.testing.assert_allclose(value, energy(IMAGE, matrix), rtol=1e-4)
    expected = 2 * matrix @ IMAGE.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(np.reshape(gradient, (-1, 3)), expected, atol=1e-4 * np.abs(expected).max())


def test_photorealism_under_a_guide() -> None:
    """A window has the minimum weight of its positions, so windows that reach outside the guide do not count."""
    guide: Any = np.ones((7, 8), np.float32)
    guide[:, 5:] = 0.0
    loss = Photorealism()
    alone = loss.loss(IMAGE[:, :5], loss.fit(CONTENT[:, :5]))
    value, gradient = jax.jit(jax.value_and_grad(loss.loss))(jnp.asarray(IMAGE), loss.fit(CONTENT), guide)
    np.testing.assert_allclose(value, alone, rtol=1e-5)
    np.testing.assert_array_equal(gradient[:, 5:], jnp.zeros((7, 3, 3)))
    assert (np.abs(gradient[:, :5]) > 0).all()


def test_invalid_arguments_of_photorealism() -> None:
    for radius, epsilon in ((0, 1e-7), (1, 0.0), (1, float("nan"))):
        with pytest.raises(JnstError, match=r"radius .*epsilon .*above 0"):
            Photorealism(radius, epsilon)
    with pytest.raises(JnstError, match=r"2x8 .*3x3.*smaller radius"):
        affine_models(CONTENT[:2])
    with pytest.raises(JnstError, match=r"reduction 'median' .*mean, sum"):
        photorealism_loss(IMAGE, affine_models(CONTENT), reduction="median")
    with pytest.raises(JnstError, match=r"\(6, 8, 3\).*\(7, 8, 3\).*fit the target"):
        photorealism_loss(IMAGE[:6], affine_models(CONTENT))
