"""Checks, sizes, resizing, noise and the demo images."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_image
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jnst.errors import ImageError, JnstError
from jnst.images import FITS, MEAN_COLOUR, METHODS, Pyramid, check_image, demo_images, fit_shape, noise, resize

pytestmark = pytest.mark.usefixtures("unoptimised")

GOOD = random_image(0, 6, 7)
MEAN, STD = np.asarray([0.485, 0.456, 0.406], np.float32), np.asarray([0.229, 0.224, 0.225], np.float32)

BAD: dict[str, tuple[object, str]] = {
    "uint8": (np.full((6, 7, 3), 255, np.uint8), "dtype uint8.*divide by 255 or use jnst.load_image"),
    "int32": (jnp.zeros((6, 7, 3), jnp.int32), "dtype int32.*divide by 255"),
    "bool": (np.zeros((6, 7, 3), bool), "dtype bool"),
    "0-255": (GOOD * 255, r"looks like 0-255 \(max 2\d\d.*divide by 255 or use jnst.load_image"),
    "-1 to 1": (GOOD * 2 - 1, r"looks like \[-1, 1\] .*: use \(x \+ 1\) / 2"),
    "centred": (GOOD - 0.5, r"looks centred at 0 .*: add 0\.5"),
    "overshoot": (1.2 * GOOD - 0.1, r"values from -0\.\d+ to .*expected \[0, 1\].*clip"),
    "for ImageNet": ((GOOD - MEAN) / STD, r"looks normalised for ImageNet .*: undo that, with image \* std \+ mean"),
    "without a mean": (255 * (GOOD - MEAN), r"looks like 0-255 without a mean .*: add the mean, then divide by 255"),
    "16 bits": (GOOD * 65535, r"looks like 16 bits \(max \d+.*divide by 65535"),
    "PIL": (
        Image.new("RGB", (7, 6)),
        r"is a PIL image, .*: pass np\.asarray\(content\.convert\('RGB'\)",
    ),
    "above": (GOOD + 0.5, r"expected \[0, 1\]"),
    "channels first": (GOOD.transpose(2, 0, 1), r"shape \(3, 6, 7\), expected \(h, w, 3\).*moveaxis"),
    "RGBA": (np.zeros((6, 7, 4), np.float32), r"shape \(6, 7, 4\).*alpha"),
    "grey": (np.zeros((6, 7), np.float32), r"shape \(6, 7\).*grey"),
    "grey with an axis": (np.zeros((6, 7, 1), np.float32), r"shape \(6, 7, 1\).*jnp\.repeat\(image, 3, axis=-1\)"),
    "batch": (np.zeros((2, 6, 7, 3), np.float32), r"shape \(2, 6, 7, 3\).*one image at a time"),
    "NaN": (np.where(np.arange(126).reshape(6, 7, 3) < 4, np.nan, GOOD), "4 values that are NaN or infinite"),
    "infinite": (np.where(GOOD.min() < GOOD, GOOD, -np.inf), "1 values that are NaN or infinite"),
    "empty": (np.zeros((0, 7, 3), np.float32), r"empty \(shape \(0, 7, 3\)\)"),
    "list": ([[[0.0, 0.0, 0.0]]], "is a list, expected an array"),
    "path": ("image.png", "is a str, expected an array: load files with jnst.load_image"),
}


@pytest.mark.parametrize("what", BAD)
def test_invalid_images(what: str) -> None:
    image, match = BAD[what]
    with pytest.raises(ImageError, match=f"^`content` .*{match}") as caught:
        check_image(image, "content")  # pyright: ignore[reportArgumentType]
    assert "\n" not in str(caught.value)


class Tensor:
    """What PyTorch's tensors have: a dtype of their own, and a gradient in the way of NumPy."""

    def __init__(self, values: np.ndarray, *, needs_gradient: bool = True) -> None:
        self.values, self.needs_gradient = values, needs_gradient
        self.shape, self.dtype = values.shape, "torch.float32"

    def detach(self) -> "Tensor":
        return Tensor(self.values, needs_gradient=False)

    def cpu(self) -> "Tensor":
        return self

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        assert not self.needs_gradient
        return self.values


def test_tensors_of_pytorch_are_taken() -> None:
    np.testing.assert_array_equal(check_image(Tensor(GOOD), "content"), GOOD)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ImageError, match=r"shape \(3, 6, 7\).*moveaxis"):
        check_image(Tensor(GOOD.transpose(2, 0, 1)), "content")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_floats_are_cast_to_float32(dtype: np.dtype, array: object) -> None:
    image = GOOD.astype(dtype)
    with warnings.catch_warnings():
        # JAX warns that float64 is not enabled.
        warnings.simplefilter("ignore", UserWarning)
        image = jnp.asarray(image) if array is jnp.asarray else image
    checked = check_image(image, "content")  # pyright: ignore[reportArgumentType]
    assert isinstance(checked, jax.Array)
    assert checked.dtype == jnp.float32
    np.testing.assert_array_equal(checked, np.asarray(image, np.float32))


def test_the_limits_of_the_range_and_rounding_errors_pass() -> None:
    for image in (np.zeros((2, 2, 3)), np.ones((2, 2, 3)), np.full((2, 2, 3), 1.0005), np.full((2, 2, 3), -0.0005)):
        check_image(image, "content")  # pyright: ignore[reportArgumentType]


def test_under_jit_shape_and_dtype_are_checked() -> None:
    assert jax.jit(lambda x: check_image(x, "x"))(GOOD).shape == (6, 7, 3)
    with pytest.raises(ImageError, match="uint8"):
        jax.jit(lambda x: check_image(x, "x"))(np.zeros((6, 7, 3), np.uint8))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(9, 12), (40, 51), (20, 10)])
def test_resize_against_pillow(method: str, shape: tuple[int, int]) -> None:
    """Float planes resized by Pillow's filters: enlarged, reduced, and both."""
    image = random_image(1, 24, 31)
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    kernel = filters.get(method, Image.Resampling.LANCZOS)
    planes = [Image.fromarray(image[..., c]).resize((shape[1], shape[0]), kernel) for c in range(3)]
    expected = np.clip(np.stack([np.asarray(plane) for plane in planes], axis=-1), 0, 1)
    traced = jax.jit(resize, static_argnums=(1, 2))(image, shape, method)
    np.testing.assert_allclose(traced, expected, atol=2e-5)
    batch = resize(jnp.stack([image, 1 - image]), shape, method)  # by Pillow, because nothing is traced
    assert batch.shape == (2, *shape, 3)
    np.testing.assert_allclose(batch[0], traced, atol=2e-5)
    np.testing.assert_allclose(batch[1], jax.jit(resize, static_argnums=(1, 2))(1 - image, shape, method), atol=2e-5)


def test_resize_keeps_colours_and_range() -> None:
    flat = np.broadcast_to(np.asarray([0.1, 0.5, 1.0], np.float32), (2, 9, 7, 3))
    for method in METHODS:
        resized = resize(jnp.asarray(flat), (5, 20), method)
        np.testing.assert_allclose(resized, np.broadcast_to(flat[0, 0, 0], (2, 5, 20, 3)), atol=1e-6)
    edge = np.zeros((8, 8, 3), np.float32)
    edge[:, 4:] = 1
    resized = np.asarray(resize(jnp.asarray(edge), (32, 32), "lanczos"))
    assert (resized.min(), resized.max()) == (0, 1)


def test_resize_an_empty_batch() -> None:
    assert resize(jnp.zeros((0, 6, 7, 3)), (3, 4)).shape == (0, 3, 4, 3)


def test_resize_to_the_same_size_returns_the_image() -> None:
    image = jnp.asarray(GOOD)
    assert resize(image, (6, 7)) is image


def test_resize_with_an_unknown_method() -> None:
    with pytest.raises(JnstError, match="method 'nearest' is unknown: choose one of bilinear, bicubic, lanczos"):
        resize(jnp.asarray(GOOD), (3, 3), "nearest")


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 5000), width=st.integers(1, 5000), side=st.integers(1, 3000))
def test_fit_shape(height: int, width: int, side: int) -> None:
    """The longer side is exact; the shorter one is within half a pixel of the proportions, or one pixel."""
    shape = fit_shape((height, width), side)
    assert max(shape) == side
    assert min(shape) >= 1
    exact = side * min(height, width) / max(height, width)
    assert abs(min(shape) - exact) <= 0.5 + 1e-9 or min(shape) == 1
    assert (shape[0] >= shape[1]) == (height >= width) or min(shape) == max(shape)


def test_halves_are_rounded_to_even() -> None:
    """As Python rounds what is exactly a half: 362 * 3024 / 4032 is 271.5, 30 * 350 / 1000 is 10.5."""
    assert fit_shape((3024, 4032), 362) == (272, 362)
    assert fit_shape((350, 1000), 30) == (10, 30)


def longer_sides(pyramid: Pyramid, *shape: int) -> list[int]:
    return [max(size) for size in pyramid.shapes((shape[0], shape[1]))]


def test_sizes_of_a_pyramid() -> None:
    assert longer_sides(Pyramid(), 512, 512) == [128, 181, 256, 362, 512]
    assert longer_sides(Pyramid(), 192, 100) == [136, 192]
    assert longer_sides(Pyramid(), 363, 300) == [128, 182, 257, 363]  # 363 / 2 is rounded to even
    assert longer_sides(Pyramid(factor=2.0), 700, 1000) == [250, 500, 1000]
    assert longer_sides(Pyramid(factor=2.0, min_size=1, levels=2), 700, 1024) == [512, 1024]
    assert longer_sides(Pyramid(min_size=64, levels=3), 512, 512) == [256, 362, 512]
    assert longer_sides(Pyramid(), 100, 90) == [100]
    assert Pyramid(factor=2.0).shapes((300, 512)) == ((75, 128), (150, 256), (300, 512))


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 4000), width=st.integers(1, 4000), factor=st.floats(1.02, 4), least=st.integers(1, 300))
def test_a_pyramid_ends_at_the_full_size_and_respects_its_smallest_size(
    height: int, width: int, factor: float, least: int
) -> None:
    shapes = Pyramid(factor, least).shapes((height, width))
    assert shapes[-1] == (height, width)
    assert all(max(shape) >= least for shape in shapes[:-1])
    areas = [h * w for h, w in shapes]
    assert areas == sorted(areas)
    assert len(set(shapes)) == len(shapes)


def test_invalid_pyramids() -> None:
    for factor in (1.0, 0.5, float("nan")):
        with pytest.raises(JnstError, match=rf"factor {factor}"):
            Pyramid(factor=factor)
    with pytest.raises(JnstError, match="levels 0"):
        Pyramid(levels=0)
    with pytest.raises(JnstError, match="min_size 0"):
        Pyramid(min_size=0)


def test_noise() -> None:
    image = np.asarray(noise(jax.random.key(0), (80, 90), 0.05))
    assert image.shape == (80, 90, 3)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image.mean((0, 1)), MEAN_COLOUR, atol=4 * 0.05 / np.sqrt(7200))
    np.testing.assert_allclose(image.std((0, 1)), 0.05, rtol=0.05)
    np.testing.assert_array_equal(image, noise(jax.random.key(0), (80, 90), 0.05))
    assert (image != np.asarray(noise(jax.random.key(1), (80, 90), 0.05))).any()
    wild = np.asarray(noise(jax.random.key(0), (80, 90), 5.0))
    assert (wild.min(), wild.max()) == (0, 1)


@pytest.mark.parametrize("name", FITS)
def test_fits_of_a_batch(name: str) -> None:
    images = random_image(2, 3, 20, 30)
    fitted = FITS[name](jnp.asarray(images), (8, 8))
    assert fitted.shape == (3, 8, 8, 3)
    np.testing.assert_allclose(fitted[1], FITS[name](jnp.asarray(images[1]), (8, 8)), atol=1e-6)


def test_demo_images() -> None:
    """They are valid, cached and concrete, also if the first call is inside a transformation."""
    demo_images.cache_clear()
    jax.jit(lambda: demo_images()[0].mean())()
    for image, shape in zip(demo_images(), [(256, 384, 3), (320, 400, 3)], strict=True):
        assert image.shape == shape
        check_image(image, "image")
    assert demo_images() is demo_images()
