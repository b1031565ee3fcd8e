"""Higher derivatives and float64: what differentiating through a whole optimisation run needs."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_networks import relative_difference

from jnst.backbones import Backbone, make_backbone
from jnst.backbones.kernels import algorithms
from jnst.types import Array, Params

pytestmark = pytest.mark.usefixtures("unoptimised")

LAYERS = ("relu1_2", "relu2_2")


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def draw(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Array:
    return jnp.asarray(np.random.default_rng(seed).uniform(size=shape), dtype)


def network(dtype: Any, widths: str = "4,4/8,8", **options: Any) -> tuple[Backbone, Params]:
    """A tiny VGG; biases keep some features away from zero."""
    backbone = make_backbone("convnet", widths=widths, **options)
    params = backbone.init(jax.random.key(0))
    return backbone, jax.tree.map(lambda leaf: leaf.astype(dtype) + 0.1 * (leaf.ndim == 1), params)


def energy(backbone: Backbone, params: Params, image: Array) -> Array:
    return sum(((f**3).mean() for f in backbone.apply(params, image, LAYERS).values()), jnp.zeros((), image.dtype))


@partial(jax.jit, static_argnums=0)
def gradient(backbone: Backbone, params: Params, image: Array) -> Array:
    return jax.grad(lambda image: energy(backbone, params, image))(image)


@partial(jax.jit, static_argnums=0)
def second_derivative(backbone: Backbone, params: Params, image: Array, direction: Array) -> Array:
    """The product of the Hessian and ``direction``, as the gradient of a function of the gradient."""
    return jax.grad(lambda image: jnp.vdot(gradient(backbone, params, image), direction))(image)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "options",
    [{}, {"pooling": "avg"}, {"pooling": "l2"}, {"pooling": "hann"}, {"remat": True}, {"padding": "reflect"}],
    ids=str,
)
def test_gradient_of_the_gradient_against_finite_differences(options: dict[str, Any]) -> None:
    backbone, params = network(jnp.float64, **options)
    image, direction, step = draw((9, 8, 3), jnp.float64), draw((9, 8, 3), jnp.float64, seed=1), 1e-6
    derivative = second_derivative(backbone, params, image, direction)
    after, before = (gradient(backbone, params, image + sign * step * direction) for sign in (1, -1))
    assert derivative.dtype == jnp.float64
    assert relative_difference(derivative, np.asarray((after - before) / (2 * step))) < 1e-7
    forward = jax.jvp(lambda image: gradient(backbone, params, image), (image,), (direction,))[1]
    assert relative_difference(forward, np.asarray(derivative)) < 1e-12


@pytest.mark.long
@pytest.mark.usefixtures("x64")
def test_gradient_of_the_gradient_of_squeezenet() -> None:
    backbone = make_backbone("squeezenet1.1")
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), backbone.init(jax.random.key(0)))
    layers, image, direction = backbone.layers[:4], draw((16, 16, 3), jnp.float64), draw((16, 16, 3), jnp.float64, 1)

    @jax.jit
    @jax.grad
    def gradient(image: Array) -> Array:
        return sum(((f**3).mean() for f in backbone.apply(params, image, layers).values()), jnp.zeros(()))

    derivative = jax.jit(jax.grad(lambda image: jnp.vdot(gradient(image), direction)))(image)
    after, before = (gradient(image + sign * 1e-7 * direction) for sign in (1, -1))
    assert relative_difference(derivative, np.asarray((after - before) / 2e-7)) < 1e-6


@pytest.mark.parametrize(("precision", "error"), [("float32", 1e-5), ("bfloat16", 5e-2)])
def test_gradient_of_the_gradient_of_prepared_parameters(
    precision: str, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(algorithms, "MIN_FLOPS", 0)
    backbone, params = network(jnp.float32, widths="8,64/128,128", precision=precision)
    prepared = backbone.prepare(params)
    assert len(jax.tree.leaves(prepared)) == len(jax.tree.leaves(params)) + 2
    image, direction = draw((9, 8, 3), jnp.float32), draw((9, 8, 3), jnp.float32, seed=1)
    expected, derivative = (second_derivative(backbone, each, image, direction) for each in (params, prepared))
    assert relative_difference(derivative, np.asarray(expected)) < error


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_gradient_through_gradient_descent(pooling: str) -> None:
    """The gradient of the last loss with respect to the learning rate, with steps in a rematerialised scan."""
    backbone, params = network(jnp.float64, pooling=pooling)
    start = draw((9, 8, 3), jnp.float64)

    @jax.jit
    def last_loss(rate: Array) -> Array:
        @jax.checkpoint
        def step(image: Array, _: None) -> tuple[Array, None]:
            return image - rate * gradient(backbone, params, image), None

        return energy(backbone, params, jax.lax.scan(step, start, None, length=4)[0])

    rate, step = jnp.asarray(0.01), 1e-6
    assert last_loss(rate) < last_loss(0 * rate)
    expected = (last_loss(rate + step) - last_loss(rate - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(last_loss)(rate), expected, rtol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", ["convnet", "vgg19-slim", "squeezenet1.1"])
def test_features_have_the_dtype_of_the_parameters_in_x64_mode(name: str, dtype: Any) -> None:
    backbone = make_backbone(name)
    params = jax.eval_shape(backbone.init, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), params)

    def features_and_gradient(params: Params, image: Array) -> tuple[dict[str, Array], Array]:
        features, pull = jax.vjp(lambda image: backbone.apply(params, image, backbone.layers[:6]), image)
        return features, pull(features)[0]

    for image_dtype in (jnp.float32, jnp.float64):
        image = jax.ShapeDtypeStruct((32, 32, 3), image_dtype)
        jaxpr, (features, image_gradient) = jax.make_jaxpr(features_and_gradient, return_shape=True)(params, image)
        assert {array.dtype for array in features.values()} == {jnp.dtype(dtype)}
        assert image_gradient.dtype == image_dtype
        # Nothing is rounded, or promoted, on the way.
        assert image_dtype != dtype or {jnp.float32: "f64[", jnp.float64: "f32["}[dtype] not in str(jaxpr)
