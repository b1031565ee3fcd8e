"""Presets: published formulas in float64 NumPy, what every row needs, and messages."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts import random_features, random_image, tiny_backbone
from losses import references

from jnst.backbones import POOLINGS, make_backbone
from jnst.errors import JnstError, WeightsError
from jnst.images import METHODS, Pyramid
from jnst.losses import Relative, SquaredError
from jnst.losses.objective import FeatureTerm
from jnst.presets import MEASURES, PRESETS, preset
from jnst.presets.overrides import PLACES, setting
from jnst.solve import LBFGS, Adam, Solver
from jnst.solve.optimizers import check_optimizer
from jnst.transfer.inputs import INITS

VGG19 = make_backbone("vgg19")
RELUS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONVS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
CHANNELS, POSITIONS = 5, 42
IMAGE = random_image(4, 9, 8)

Taps = dict[str, np.ndarray]


def mse(difference: np.ndarray) -> float:
    return float(np.mean(np.square(difference)))


def sse(difference: np.ndarray) -> float:
    return float(np.sum(np.square(difference)))


def grams(taps: Taps, style: Taps, layers: tuple[str, ...], divisor: float) -> list[np.ndarray]:
    """F Fᵀ / divisor of the image minus that of the style, layer by layer."""
    both = ((references.gram(taps[layer], "none"), references.gram(style[layer], "none")) for layer in layers)
    return [(ours - theirs) / divisor for ours, theirs in both]


def neural_style_pt(image: Taps, content: Taps, style: Taps) -> dict[str, float]:
    difference = image["relu4_2"] - content["relu4_2"]
    return {
        "content": 5 * mse(difference),
        "style": 100 * sum(map(mse, grams(image, style, RELUS, CHANNELS * POSITIONS))),
        "tv": 1e-3 * references.total_variation(255.0 * IMAGE.astype(np.float64)),
    }


def gatys2016(image: Taps, content: Taps, style: Taps) -> dict[str, float]:
    layers = grams(image, style, CONVS, 1)
    scale = 4 * CHANNELS**2 * POSITIONS**2
    return {
        "content": 0.5 * sse(image["conv4_2"] - content["conv4_2"]),
        "style": 1e3 * sum(sse(layer) / scale / 5 for layer in layers),
    }


def gatys2017(image: Taps, content: Taps, style: Taps) -> dict[str, float]:
    return {
        "content": mse(image["relu4_2"] - content["relu4_2"]),
        "style": sum(1e3 / CHANNELS**2 * mse(layer) for layer in grams(image, style, RELUS, POSITIONS)),
    }


def tf_blogpost(image: Taps, content: Taps, style: Taps) -> dict[str, float]:
    return {
        "content": 1e3 * mse(image["relu5_2"] - content["relu5_2"]),
        "style": 1e-2 * sum(map(mse, grams(image, style, RELUS, POSITIONS))) / 5,
    }


def ours(image: Taps, content: Taps, style: Taps) -> dict[str, float]:
    settings = preset("jnst")
    pairs = ((references.gram(image[layer]), references.gram(style[layer])) for layer in RELUS)
    relative = [sse(ours - theirs) / sse(theirs) for ours, theirs in pairs]
    difference = image["relu4_2"] - content["relu4_2"]
    return {
        "content": settings.terms.content_weight * sse(difference) / sse(content["relu4_2"]),
        "style": settings.terms.style_weight * float(np.mean(relative)),
    }


FORMULAS: dict[str, Callable[[Taps, Taps, Taps], dict[str, float]]] = {
    "jnst": ours,
    "neural-style-pt": neural_style_pt,
    "gatys2016": gatys2016,
    "gatys2017": gatys2017,
    "tf-blogpost": tf_blogpost,
}


def random_taps(seed: int, layers: tuple[str, ...]) -> Taps:
    return {layer: random_features(seed + index, 6, 7, CHANNELS) for index, layer in enumerate(layers)}


@pytest.mark.parametrize("name", FORMULAS)
def test_published_formula(name: str) -> None:
    objective = preset(name).terms.objective(VGG19)
    image, content, style = (random_taps(seed, objective.layers) for seed in (10, 30, 50))
    expected = FORMULAS[name](image, content, style)
    found: dict[str, Any] = {
        kind: sum(
            float(term.weight * term.loss.loss(jnp.asarray(image[term.name]), fit(term, taps[term.name])))
            for term in terms
        )
        for kind, terms, taps in (("content", objective.content, content), ("style", objective.style, style))
    }
    found |= {term.name: float(term.weight * term.loss.loss(jnp.asarray(IMAGE))) for term in objective.regularizers}
    assert set(found) == set(expected)
    for kind, value in expected.items():
        np.testing.assert_allclose(found[kind], value, rtol=1e-5, err_msg=kind)


def fit(term: FeatureTerm, features: np.ndarray) -> Any:
    return term.loss.fit(jnp.asarray(features))


@pytest.mark.parametrize("name", PRESETS)
def test_every_row_is_usable(name: str) -> None:
    settings = PRESETS[name]
    objective = settings.terms.objective(VGG19)
    assert objective.content or settings.terms.content_layers == ()
    assert objective.style
    assert all(float(term.weight) > 0 for term in objective.content + objective.style + objective.regularizers)
    assert settings.schedule.init in INITS
    assert settings.schedule.resample in METHODS
    assert settings.loading.measure in MEASURES
    assert settings.loading.rounding in ("round", "floor")
    assert settings.network.pooling is None or settings.network.pooling in POOLINGS
    assert settings.schedule.num_steps
    assert min(settings.schedule.num_steps) > 0
    assert 0 <= settings.solver.average < 1
    for optimizer in (settings.solver.optimizer, *settings.alternatives):
        check_optimizer(optimizer)
    assert settings.summary.endswith(".")
    assert settings.source
    assert hash(settings) == hash(dataclasses.replace(settings))


def test_published_settings_around_the_formulas() -> None:
    """Optimisers, starts, sizes and steps, as the systems' sources have them."""
    neural = preset("neural-style-pt")
    assert neural.solver == Solver(LBFGS(1.0, memory_size=100), unit=255.0)
    assert (neural.schedule.num_steps, neural.schedule.init) == ((1000,), "noise")
    assert (neural.alternatives, neural.network.pooling) == ((Adam(1.0),), None)
    np.testing.assert_allclose(neural.schedule.noise_std * 255, 0.001)
    gatys = preset("gatys2016")
    assert (gatys.network.pooling, gatys.schedule.init) == ("avg", "noise")
    assert (gatys.loading.size, gatys.terms.tv_weight) == (512, 0.0)
    later = preset("gatys2017")
    assert (later.schedule.num_steps, later.schedule.init) == ((500, 200), "content")
    assert (later.loading.size, later.loading.measure) == (1024, "area")
    assert later.schedule.pyramid is not None
    assert later.schedule.pyramid.shapes((1024, 1024)) == ((512, 512), (1024, 1024))
    blog = preset("tf-blogpost")
    assert blog.solver == Solver(Adam(5.0, b1=0.99, eps=0.1), unit=255.0, bounds=(0.0, 1.0), keep_best=True)
    assert blog.schedule.num_steps == (1000,)
    trained = {name: row.network.weights for name, row in PRESETS.items() if name not in ("jnst", "scratch-cnn")}
    theirs = {name for name, weights in trained.items() if weights == "torchvision"}
    assert theirs == {"gordic", "crowson", "pytorch-tutorial", "strotss"}
    assert set(trained.values()) == {"oxford", "torchvision"}


def test_sizes_of_the_systems_with_a_pyramid() -> None:
    """Sides 128, 181, 256, 362, 512 (crowson) and 64 to 512 in octaves (STROTSS)."""
    for name, sides in (("crowson", (128, 181, 256, 362, 512)), ("strotss", (64, 128, 256, 512))):
        pyramid = preset(name).schedule.pyramid
        assert pyramid is not None
        assert tuple(max(shape) for shape in pyramid.shapes((512, 341))) == sides


def test_layers_follow_the_network_where_a_preset_leaves_them_open() -> None:
    settings = preset("jnst")
    assert settings.terms.layers(VGG19) == (("relu4_2",), RELUS)
    assert settings.terms.layers(tiny_backbone()) == (("relu2_1",), ("relu1_1", "relu2_1", "relu3_1"))
    content, style = settings.terms.layers(make_backbone("resnet50"))
    assert (len(content), len(style)) == (1, 4)
    # The mean over styles is over those that the weights reach.
    weights = [float(term.weight) for term in settings.terms.objective(tiny_backbone()).style]
    np.testing.assert_allclose(sum(weights), settings.terms.style_weight, rtol=1e-6)


def test_published_layers_beyond_the_weights_are_not_replaced() -> None:
    partial = dataclasses.replace(
        VGG19, network=VGG19.network.truncated(frozenset({"conv1_1/kernel", "conv2_1/kernel"}))
    )
    for name in ("neural-style-pt", "gatys2016", "gatys2017", "tf-blogpost"):
        with pytest.raises(WeightsError, match=r"layer (conv|relu)\d_\d of vgg19 is beyond these weights"):
            preset(name).terms.objective(partial)


def test_changes() -> None:
    changed = preset("gatys2016", style_weight=1e4, content_layers=("conv3_2",))
    assert (changed.terms.style_weight, changed.terms.content_layers) == (1e4, ("conv3_2",))
    assert changed.terms.style_loss == PRESETS["gatys2016"].terms.style_loss
    assert PRESETS["gatys2016"].terms.style_weight == 1e3
    assert preset(changed, style_weight=1e3, content_layers=("conv4_2",)) == PRESETS["gatys2016"]
    assert preset() == PRESETS["jnst"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        changed.terms.style_weight = 2.0  # pyright: ignore[reportAttributeAccessIssue]


def test_layer_weights_and_regularizer() -> None:
    settings = preset("neural-style-pt", style_layer_weights=(1, 0.8, 0.5, 0.3, 0.1), content_layers=(), tv_weight=0.0)
    objective = settings.terms.objective(VGG19)
    np.testing.assert_allclose([term.weight for term in objective.style], [100, 80, 50, 30, 10], rtol=1e-6)
    assert objective.content == ()
    assert objective.regularizers == ()
    with pytest.raises(JnstError, match=r"2 style layer weights for 5 style layers"):
        preset("neural-style-pt", style_layer_weights=(1, 2)).terms.objective(VGG19)


def test_unknown_names_and_fields() -> None:
    with pytest.raises(JnstError, match=r"^unknown preset 'gatys2015': did you mean gatys201[67] or gatys201[67]"):
        preset("gatys2015")
    with pytest.raises(JnstError, match=rf"^unknown preset 'xyz': expected one of {', '.join(PRESETS)}$"):
        preset("xyz")
    with pytest.raises(JnstError, match=r"^presets have no setting 'style_wieght': did you mean style_weight"):
        preset("jnst", style_wieght=2.0)
    assert preset("jnst").terms.content_loss == Relative(SquaredError())


def test_overrides_of_every_part_need_only_their_names() -> None:
    """Every field of every part, by its own value: nothing changes."""
    for name in PRESETS:
        values = {field: setting(PRESETS[name], field) for field in PLACES}
        assert preset(name, **values) == PRESETS[name]
    changed = preset("jnst", style_weight=5.0, average=0.9, noise_std=0.1, pooling="avg", size=300)
    assert (changed.terms.style_weight, changed.solver.average, changed.schedule.noise_std) == (5.0, 0.9, 0.1)
    assert (changed.network.pooling, changed.loading.size) == ("avg", 300)


def test_optimizers_by_name_bring_what_their_system_states() -> None:
    assert preset("neural-style-pt", optimizer="adam").solver.optimizer == Adam(1.0)
    assert preset("gatys2016", optimizer="adam").solver.optimizer == Adam()
    assert preset("gordic", optimizer="lbfgs-zoom") == PRESETS["gordic"]
    own = preset("neural-style-pt", optimizer=optax.adam(0.02))
    assert own.solver.unit == 1.0
    with pytest.raises(JnstError, match=r"unknown optimizer 'adm': did you mean adam"):
        preset("jnst", optimizer="adm")


def test_a_learning_rate_holds_at_every_size() -> None:
    published: Any = PRESETS["strotss"].solver.optimizer
    changed = preset("strotss", learning_rate=0.5)
    assert changed.schedule.last_learning_rate is None
    assert dataclasses.replace(published, learning_rate=0.5) == changed.solver.optimizer
    with pytest.raises(JnstError, match="a learning rate for an Optax transformation"):
        preset("jnst", optimizer=optax.sgd(1.0), learning_rate=0.5)
    with pytest.raises(JnstError, match=r"learning rate -1\.0: expected a positive number"):
        preset("jnst", learning_rate=-1.0)


def test_sizes_and_averages() -> None:
    assert preset("jnst", pyramid=False).schedule.pyramid is None
    assert preset("gatys2016", pyramid=True, min_size=100).schedule.pyramid == Pyramid(min_size=100)
    assert preset("gatys2017", pyramid=True).schedule.pyramid == PRESETS["gatys2017"].schedule.pyramid
    assert preset("gatys2016", min_size=100) == PRESETS["gatys2016"]
    assert preset("jnst", num_steps=7).schedule.num_steps == (7,)
    averaged = preset("tf-blogpost", average=0.9).solver
    assert (averaged.average, averaged.keep_best) == (0.9, False)
    assert preset("jnst", clamp=True).solver.bounds == (0.0, 1.0)
    assert preset("tf-blogpost", clamp=False).solver.bounds is None
    with pytest.raises(JnstError, match=r"unknown keep_color 'luminence': did you mean luminance"):
        preset("jnst", keep_color="luminence")
