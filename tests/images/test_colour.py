"""Colour spaces and transfer of luminance."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_image
from PIL import Image

from jnst.errors import ImageError, JnstError
from jnst.images import COLOUR_SPACES, luminance, match_histogram, transfer_luminance

pytestmark = pytest.mark.usefixtures("unoptimised")

RED, GREEN, BLUE, MAGENTA, WHITE, BLACK = (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 0, 0)

# Lab: the values in the tests of scikit-image's rgb2lab (sRGB, white D65; Lindbloom's matrices); grey is 116 f(Y) - 16.
# Oklab: CSS Color Module Level 4, where red is oklch(0.62796 0.25768 29.234); grey is the cube root of Y.
# YIQ: the columns of the NTSC matrix.
PUBLISHED: list[tuple[str, tuple[float, ...], tuple[float, ...], float]] = [
    ("lab", RED, (53.2408, 80.0925, 67.2032), 1e-3),
    ("lab", GREEN, (87.7347, -86.1827, 83.1793), 1e-3),
    ("lab", BLUE, (32.2970, 79.1875, -107.8602), 1e-3),
    ("lab", MAGENTA, (60.3242, 98.2343, -60.8249), 1e-3),
    ("lab", WHITE, (100.0, 0.0, 0.0), 1e-3),
    ("lab", BLACK, (0.0, 0.0, 0.0), 1e-3),
    ("lab", (0.5, 0.5, 0.5), (53.3890, 0.0, 0.0), 1e-3),
    ("oklab", RED, (0.62796, 0.22486, 0.12585), 2e-5),
    ("oklab", GREEN, (0.86644, -0.23389, 0.17950), 2e-5),
    ("oklab", BLUE, (0.45201, -0.03246, -0.31153), 2e-5),
    ("oklab", WHITE, (1.0, 0.0, 0.0), 2e-5),
    ("oklab", BLACK, (0.0, 0.0, 0.0), 2e-5),
    ("oklab", (0.5, 0.5, 0.5), (0.21404114 ** (1 / 3), 0.0, 0.0), 2e-5),
    ("yiq", RED, (0.299, 0.5959, 0.2115), 1e-6),
    ("yiq", GREEN, (0.587, -0.2746, -0.5227), 1e-6),
    ("yiq", BLUE, (0.114, -0.3213, 0.3112), 1e-6),
    ("yiq", (0.5, 0.5, 0.5), (0.5, 0.0, 0.0), 1e-6),
]


def hard_images(seed: int) -> tuple[Any, Any]:
    """Corners and edges of the colour cube, dark and bright colours; luminance from black to white."""
    rng = np.random.default_rng(seed)
    parts = [rng.integers(0, levels, (12, 36, 3)) / (levels - 1) for levels in (2, 3, 256)]
    parts += [rng.integers(0, 6, (12, 36, 3)) / 255, 1 - rng.integers(0, 6, (12, 36, 3)) / 255]
    content, image = np.concatenate(parts).astype(np.float32), rng.random((60, 36, 3)).astype(np.float32)
    image[::3] = np.round(image[::3])
    return image, content


@pytest.mark.parametrize(("space", "rgb", "expected", "tolerance"), PUBLISHED)
def test_published_values(space: str, rgb: tuple[float, ...], expected: tuple[float, ...], tolerance: float) -> None:
    colour, there = jnp.asarray(rgb, jnp.float32), COLOUR_SPACES[space]
    np.testing.assert_allclose(there.from_rgb(colour), expected, atol=tolerance)
    np.testing.assert_allclose(there.to_rgb(jnp.asarray(expected, jnp.float32)), rgb, atol=2e-3)


@pytest.mark.parametrize("space", COLOUR_SPACES)
def test_round_trips(space: str) -> None:
    there = COLOUR_SPACES[space]
    for image in (*hard_images(1), random_image(2, 2, 5, 6)):
        np.testing.assert_allclose(there.to_rgb(there.from_rgb(jnp.asarray(image))), image, atol=2e-5)
    assert there.from_rgb(jnp.ones((2, 3), jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("space", COLOUR_SPACES)
def test_conversions_have_finite_gradients(space: str) -> None:
    """Also at black, where the derivative of a cube root is infinite."""
    there, (_, content) = COLOUR_SPACES[space], hard_images(1)
    for function, values in ((there.from_rgb, content), (there.to_rgb, there.from_rgb(jnp.asarray(content)))):
        gradient = jax.jit(jax.grad(lambda x, function=function: jnp.sum(function(x) ** 2)))(jnp.asarray(values))
        assert np.isfinite(gradient).all()


def test_luminance_against_pillow() -> None:
    image = np.random.default_rng(1).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float32) / 255
    np.testing.assert_allclose(luminance(jnp.asarray(image / 255, jnp.float32)), grey, atol=0.6 / 255)


@pytest.mark.parametrize("space", COLOUR_SPACES)
def test_chroma_is_preserved_and_results_are_in_range(space: str) -> None:
    there = COLOUR_SPACES[space]
    image, content = hard_images(3)
    result = np.asarray(transfer_luminance(image, content, space))
    assert result.min() >= 0
    assert result.max() <= 1
    own, got = np.asarray(there.from_rgb(content)), np.asarray(there.from_rgb(jnp.asarray(result)))
    np.testing.assert_allclose(got[..., 1:], own[..., 1:], atol=1 / 255)


def test_chroma_is_preserved_in_8_bits() -> None:
    image, content = hard_images(3)
    content = np.round(content * 255) / 255
    result = np.round(np.asarray(transfer_luminance(image, content), np.float64) * 255) / 255
    from_rgb = COLOUR_SPACES["yiq"].from_rgb
    np.testing.assert_allclose(
        from_rgb(jnp.asarray(result))[..., 1:], from_rgb(jnp.asarray(content))[..., 1:], atol=1 / 255
    )


@pytest.mark.parametrize("space", COLOUR_SPACES)
def test_luminance_moves_as_far_as_it_can(space: str) -> None:
    """It is the wanted one, or lies between that and the content's own at the border of the gamut."""
    there = COLOUR_SPACES[space]
    scale = 100 if space == "lab" else 1
    image, content = hard_images(4)
    own, wanted = np.asarray(there.from_rgb(content)), np.asarray(there.from_rgb(image))[..., 0]
    got = np.asarray(there.from_rgb(transfer_luminance(image, content, space)))
    reached = np.abs(got[..., 0] - wanted) < 2e-3 * scale
    assert 0.3 < reached.mean() < 0.95
    way = wanted - own[..., 0]
    part = np.sum((got[..., 0] - own[..., 0]) * way) / np.sum(way**2)
    assert 0.3 < part < 0.95
    low, high = np.minimum(wanted, own[..., 0]), np.maximum(wanted, own[..., 0])
    assert ((got[..., 0] > low - 2e-3 * scale) & (got[..., 0] < high + 2e-3 * scale)).all()
    further = own.copy()
    further[..., 0] = got[..., 0] + np.sign(way) * np.minimum(0.03 * scale, np.abs(wanted - got[..., 0]))
    beyond = np.asarray(there.to_rgb(jnp.asarray(further)))
    outside: Any = (beyond < -1e-6).any(-1) | (beyond > 1 + 1e-6).any(-1)
    assert outside[np.abs(wanted - got[..., 0]) > 0.03 * scale].all()


@pytest.mark.parametrize("space", COLOUR_SPACES)
def test_a_luminance_inside_the_gamut_is_reached(space: str) -> None:
    there, image, content = COLOUR_SPACES[space], random_image(5, 20, 30), 0.35 + 0.3 * random_image(6, 20, 30)
    lightness = 0.4 + 0.2 * image[..., :1] * np.ones(3, np.float32)
    result = transfer_luminance(jnp.asarray(lightness), jnp.asarray(content), space)
    wanted = there.from_rgb(lightness)[..., 0]
    np.testing.assert_allclose(there.from_rgb(result)[..., 0], wanted, atol=1e-4 * float(jnp.max(wanted)))
    np.testing.assert_allclose(transfer_luminance(content, content, space), content, atol=2e-5)


@pytest.mark.parametrize("space", COLOUR_SPACES)
def test_a_grey_content_gives_a_grey_image(space: str) -> None:
    content = np.repeat(random_image(1, 9, 8)[..., :1], 3, -1)
    result = np.asarray(transfer_luminance(random_image(2, 9, 8), jnp.asarray(content), space))
    np.testing.assert_allclose(np.ptp(result, axis=-1), 0, atol=1e-4)


@pytest.mark.parametrize("space", COLOUR_SPACES)
def test_transfer_under_transformations(space: str) -> None:
    image, content = (jnp.asarray(array).reshape(3, 20, 36, 3)[:, :, :9] for array in hard_images(5))
    result = transfer_luminance(image, content, space)
    np.testing.assert_allclose(
        jax.jit(transfer_luminance, static_argnames="space")(image, content, space=space), result, atol=1e-4
    )
    mapped = jax.vmap(lambda x, y: transfer_luminance(x, y, space))(image, content)
    np.testing.assert_allclose(mapped, result, atol=1e-4)
    assert transfer_luminance(image, content[0], space).shape == image.shape
    assert transfer_luminance(image[0], content, space).shape == image.shape
    gradients = jax.jit(jax.grad(lambda x, y: jnp.sum(transfer_luminance(x, y, space) ** 2), (0, 1)))(image, content)
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        assert np.asarray(gradient).any()


def test_invalid_arguments() -> None:
    image = jnp.zeros((4, 5, 3))
    with pytest.raises(JnstError, match="colour space 'luv' is unknown: choose one of yiq, lab, oklab"):
        transfer_luminance(image, image, "luv")
    with pytest.raises(JnstError, match="method 'chol' is unknown: choose one of cholesky, pca, symmetric"):
        match_histogram(image, image, "chol")
    with pytest.raises(ImageError, match=r"\(4, 5, 3\).*\(5, 4, 3\).*jnst.resize"):
        transfer_luminance(image, jnp.zeros((5, 4, 3)))
