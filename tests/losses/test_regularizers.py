"""Total variation as in several programs, and Laplacians, against float64 loops over pixels and closed forms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_image
from losses.finite_differences import check_gradient

from jnst.errors import JnstError
from jnst.losses import Laplacian, TotalVariation, laplacian_energy, total_variation
from jnst.losses.total_variation import NORMS, REDUCTIONS
from jnst.statistics import laplacian

pytestmark = pytest.mark.usefixtures("unoptimised")

IMAGE = random_image(4, 5, 6)


def nine_point(image: Any) -> float:
    """crowson's total variation with means, pixel by pixel, with the border repeated."""
    height, width, _ = image.shape

    def pixel(y: int, x: int) -> Any:
        return np.asarray(image, np.float64)[min(max(y, 0), height - 1), min(max(x, 0), width - 1)]

    inside = [(y, x) for y in range(height) for x in range(width)]
    squares = [(y, x) for y in range(-1, height) for x in range(-1, width)]
    across = np.mean([(pixel(y, x + 1) - pixel(y, x)) ** 2 for y, x in inside])
    down = np.mean([(pixel(y + 1, x) - pixel(y, x)) ** 2 for y, x in inside])
    falling = np.mean([(pixel(y + 1, x + 1) - pixel(y, x)) ** 2 for y, x in squares])
    rising = np.mean([(pixel(y + 1, x) - pixel(y, x + 1)) ** 2 for y, x in squares])
    return float(2 * (across / 3 + down / 3 + (falling + rising) / 12))


def neural_style_gradient(image: Any) -> Any:
    """What neural-style adds to the gradient, for weight 1: both differences of each pixel that has both."""
    gradient, image = np.zeros(image.shape), np.asarray(image, np.float64)
    for y in range(image.shape[0] - 1):
        for x in range(image.shape[1] - 1):
            across, down = image[y, x] - image[y, x + 1], image[y, x] - image[y + 1, x]
            gradient[y, x] += across + down
            gradient[y, x + 1] -= across
            gradient[y + 1, x] -= down
    return gradient


def laplacian_by_pixel(image: Any) -> Any:
    result, image = np.zeros(image.shape), np.asarray(image, np.float64)
    for y, x in np.ndindex(*image.shape[:2]):
        for row, column in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                result[y, x] += image[row, column] - image[y, x]
    return result


def test_nine_point_total_variation() -> None:
    value, gradient = jax.jit(jax.value_and_grad(TotalVariation("nine_point", "mean").loss))(jnp.asarray(IMAGE))
    np.testing.assert_allclose(value, nine_point(IMAGE), rtol=1e-5)
    check_gradient(gradient, nine_point, IMAGE)


def test_nine_point_total_variation_of_a_dot() -> None:
    """Straight: two steps of 1 in each direction over 9 pixels. Diagonal: two over 16 squares."""
    dot = jnp.zeros((3, 3, 3)).at[1, 1].set(1.0)
    expected = 2 * (2 / 9 / 3 + 2 / 9 / 3 + (2 / 16 + 2 / 16) / 12)
    np.testing.assert_allclose(total_variation(dot, "nine_point", "mean"), expected, rtol=1e-6)
    # A corner is repeated beyond the border: one straight step each way, three falling and two rising diagonal ones.
    corner = jnp.zeros((3, 3, 3)).at[0, 0].set(1.0)
    expected = 2 * (1 / 9 / 3 + 1 / 9 / 3 + (3 / 16 + 2 / 16) / 12)
    np.testing.assert_allclose(total_variation(corner, "nine_point", "mean"), expected, rtol=1e-6)


@pytest.mark.parametrize("power", [0.5, 1.0, 1.25])
def test_isotropic_total_variation(power: float) -> None:
    def reference(image: Any) -> float:
        image, total = 255 * np.asarray(image, np.float64), 0.0
        for y in range(image.shape[0] - 1):
            for x in range(image.shape[1] - 1):
                steps = (image[y + 1, x] - image[y, x]) ** 2 + (image[y, x + 1] - image[y, x]) ** 2
                total += float(np.sum(steps**power))
        return total

    loss = TotalVariation("isotropic", value_range=255.0, power=power)
    value, gradient = jax.jit(jax.value_and_grad(loss.loss))(jnp.asarray(IMAGE))
    np.testing.assert_allclose(value, reference(IMAGE), rtol=1e-5)
    check_gradient(gradient, reference, IMAGE)


def test_isotropic_total_variation_of_a_ramp() -> None:
    """0.03 down and 0.04 across are 0.05 along the slope, for 4 x 5 pixels and 3 channels."""
    y, x = np.mgrid[:5, :6]
    ramp = jnp.repeat(jnp.asarray(0.03 * y + 0.04 * x, jnp.float32)[..., None], 3, axis=-1)
    np.testing.assert_allclose(total_variation(ramp, "isotropic", power=0.5), 60 * 0.05, rtol=1e-5)
    np.testing.assert_allclose(total_variation(ramp, "isotropic"), 60 * 0.05**2.5, rtol=1e-5)
    np.testing.assert_allclose(total_variation(ramp, "isotropic", "mean", power=1.0), 0.05**2, rtol=1e-5)


def test_uncounted_total_variation_has_the_gradient_of_neural_style() -> None:
    loss = TotalVariation("isotropic", "half_sum", value_range=256.0, power=1.0, counted=False)
    value, gradient = jax.jit(jax.value_and_grad(loss.loss))(jnp.asarray(IMAGE))
    assert float(value) == 0.0
    # neural-style optimises 256 times the image.
    np.testing.assert_allclose(gradient, 256 * neural_style_gradient(256 * IMAGE), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("norm", NORMS)
def test_uncounted_total_variation_is_0_with_the_same_gradient(norm: str) -> None:
    images = jnp.asarray(random_image(5, 2, 5, 6))
    for counted in (True, False):
        values, pull = jax.vjp(TotalVariation(norm, counted=counted).loss, images)
        expected, expected_pull = jax.vjp(lambda x: total_variation(x, norm), images)
        np.testing.assert_array_equal(values, expected if counted else jnp.zeros(2))
        for gradient, goal in zip(pull(jnp.ones(2)), expected_pull(jnp.ones(2)), strict=True):
            np.testing.assert_array_equal(gradient, goal)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_an_image_of_one_colour_has_no_variation(norm: str, reduction: str) -> None:
    flat = jnp.broadcast_to(jnp.asarray([0.2, 0.5, 0.9]), (2, 5, 4, 3))
    for power in (0.5, 1.25):
        values, pull = jax.vjp(lambda x, p=power: total_variation(x, norm, reduction, power=p), flat)
        np.testing.assert_array_equal(values, jnp.zeros(2))
        assert np.isfinite(pull(jnp.ones(2))[0]).all()


@pytest.mark.parametrize("norm", NORMS)
def test_half_sum_is_half_the_sum(norm: str) -> None:
    np.testing.assert_allclose(total_variation(IMAGE, norm, "half_sum"), total_variation(IMAGE, norm) / 2, rtol=1e-6)


def test_isotropic_total_variation_of_a_line_is_0() -> None:
    assert float(total_variation(IMAGE[:1], "isotropic", "mean")) == 0.0


@pytest.mark.parametrize("power", [0.0, -1.0, float("nan")])
def test_a_power_must_be_above_zero(power: float) -> None:
    with pytest.raises(JnstError, match=r"power .*above 0"):
        total_variation(IMAGE, "isotropic", power=power)


def test_laplacian() -> None:
    for image in (IMAGE, IMAGE[:1], IMAGE[:, :1]):
        np.testing.assert_allclose(laplacian(image), laplacian_by_pixel(image), atol=1e-6)


def test_the_laplacian_repeats_the_border() -> None:
    frame = np.pad(IMAGE.astype(np.float64), ((1, 1), (1, 1), (0, 0)), mode="edge")
    expected = frame[:-2, 1:-1] + frame[2:, 1:-1] + frame[1:-1, :-2] + frame[1:-1, 2:] - 4 * frame[1:-1, 1:-1]
    np.testing.assert_allclose(laplacian(IMAGE), expected, atol=1e-6)


def test_laplacian_of_valid_positions() -> None:
    valid = np.ones((5, 6), bool)
    valid[:, 4:] = False
    expected = np.pad(laplacian_by_pixel(IMAGE[:, :4]), ((0, 0), (0, 2), (0, 0)))
    np.testing.assert_allclose(laplacian(IMAGE, jnp.asarray(valid)), expected, atol=1e-6)


def test_laplacian_energy() -> None:
    def reference(image: Any) -> float:
        return float(np.mean(laplacian_by_pixel(image) ** 2))

    value, gradient = jax.jit(jax.value_and_grad(Laplacian().loss))(jnp.asarray(IMAGE))
    np.testing.assert_allclose(value, reference(IMAGE), rtol=1e-5)
    check_gradient(gradient, reference, IMAGE)


def test_laplacian_energy_of_a_dot() -> None:
    """-4 at the dot, 1 at its neighbours: 20 over 25 pixels."""
    dot = jnp.zeros((5, 5, 3)).at[2, 2].set(1.0)
    np.testing.assert_allclose(laplacian_energy(dot), 20 / 25, rtol=1e-6)
    assert float(laplacian_energy(jnp.full((5, 5, 3), 0.3))) == 0.0
    # A slope has a Laplacian at its ends only.
    slope = jnp.broadcast_to(jnp.arange(8.0)[:, None, None] / 8, (8, 4, 3))
    np.testing.assert_array_equal(laplacian(slope)[1:-1], jnp.zeros((6, 4, 3)))
