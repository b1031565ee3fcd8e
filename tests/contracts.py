"""What several test files share: every loss in several variants, small networks, random arrays.

Random arrays are NumPy's; their static type is left open, because JAX takes them everywhere without saying so.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnst.backbones import IMAGENET, Backbone
from jnst.backbones.vgg import VGG
from jnst.losses import CONTENT_LOSSES, REGULARIZERS, STYLE_LOSSES
from jnst.losses.base import REDUCTIONS
from jnst.losses.total_variation import NORMS
from jnst.statistics import GRAM_NORMALIZATIONS
from jnst.types import Array, Params

TABLES = {"content": CONTENT_LOSSES, "style": STYLE_LOSSES, "image": REGULARIZERS}

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "mse": [{"reduction": reduction} for reduction in REDUCTIONS],
    "gram": [{"normalization": name} for name in GRAM_NORMALIZATIONS]
    + [{"normalization": "hw", "reduction": reduction} for reduction in REDUCTIONS],
    "tv": [{"norm": norm} for norm in NORMS]
    + [{"reduction": "mean"}, {"norm": "nine_point", "reduction": "mean"}]
    + [{"reduction": "half_sum"}, {"value_range": 255.0}],
    "covariance": [{"reduction": "mean"}, {"reduction": "relative"}],
    "mean-std": [{"reduction": "mean"}, {"reduction": "relative"}],
    "wasserstein": [{"eps": 0.01}, {"iterations": 12}],
    "cross-gram": [{}, {"normalization": "hw", "reduction": "relative"}],
    "shifted-gram": [{"shifts": (1, 2)}],
    "content laplacian": [{"pool": 2}],
    "sliced-wasserstein": [{}, {"directions": 3}],
    "histogram": [{}, {"reduction": "sum"}],
    "remd": [{}, {"max_positions": 16}],
    "self-similarity": [{"max_positions": 16}],
    "hypercolumn-self-similarity": [{"max_positions": 16}],
}
"""Options to test a row with. A row that is not named here is tested with its defaults; a name that two tables have
stands after the table's."""


ZERO_UP_TO: dict[str, float] = {
    # The slopes of the affine functions cost something, with the content itself too.
    "photorealism": 1e-6,
    # Differences of traces of roots, as long as the iteration makes them.
    "wasserstein": 1e-5,
    # A softmax over the target's positions, all of which keep a rest.
    "contextual": 1e-6,
    # The same unit vector, moment or distance, computed in two places of a program may differ in its last bits.
    "remd": 1e-12,
    "strotss": 1e-6,
    "self-similarity": 1e-6,
    "hypercolumn-self-similarity": 1e-6,
}
"""How far from 0 a row may be at its own target, relative to its value elsewhere, where rounding does not cancel."""

NOT_A_MIXTURE = {
    "gram-none",
    "shifted-gram-(1, 2)",
    "patches-default",
    "contextual-default",
    "remd-16",
    "strotss-default",
}
"""Cases whose blended targets are not those of the two images side by side, and why: unnormalised sums grow with the
image; across the seam there are pairs of positions, patches and hypercolumns that neither image has; the
contextual loss counts the target's positions; a sample is drawn of each image."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A row of a table with options. A joint loss gets two layers, made from one array."""

    kind: str
    name: str
    options: tuple[tuple[str, Any], ...]

    @property
    def loss(self) -> Any:
        return TABLES[self.kind][self.name](**dict(self.options))

    @property
    def channels(self) -> int:
        return 3 if self.kind == "image" else 5

    def layers(self, array: Any) -> Any:
        """What the loss is given: features, or for a joint loss also coarser ones with fewer channels."""
        return (array, array[..., ::2, ::2, :3]) if getattr(self.loss, "joint", False) else array

    def guides(self, guide: Any) -> Any:
        """A guide for each of `layers`."""
        return (guide, guide[..., ::2, ::2]) if getattr(self.loss, "joint", False) else guide

    def fit(self, features: Any, guide: Any = None) -> Any:
        if self.kind == "image":
            return None
        return self.loss.fit(self.layers(features), None if guide is None else self.guides(guide))

    def value(self, features: Any, target: Any, guide: Any = None) -> Array:
        if self.kind == "image":
            return self.loss.loss(features)
        return self.loss.loss(self.layers(features), target, None if guide is None else self.guides(guide))

    def fitted_value(self, features: Array, style: Array) -> Array:
        return self.value(features, self.fit(style))


def _cases() -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for kind, table in TABLES.items():
        for name in table:
            for options in VARIANTS.get(f"{kind} {name}") or VARIANTS.get(name) or [{}]:
                words = [str(value) for value in options.values()] or ["default"]
                cases["-".join([name, *words])] = Case(kind, name, tuple(options.items()))
    return cases


CASES = _cases()


def random_features(seed: int, *shape: int) -> Any:
    """Standard normal float32 values."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def random_image(seed: int, *shape: int) -> Any:
    """Smooth colours with some noise, float32 in [0, 1]; ``shape`` (..., h, w) goes without the channels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    phases = rng.uniform(0, 6, (*shape[:-2], 1, 1, 3))
    waves = np.sin(0.4 * x[..., None] + 0.3 * y[..., None] * (1 + seed % 3) + phases)
    return np.clip(0.5 + 0.25 * waves + 0.1 * rng.standard_normal((*shape, 3)), 0, 1).astype(np.float32)


def random_params(backbone: Backbone, seed: int = 0) -> Params:
    """Parameters of the shapes that `Backbone.init` makes: He-normal kernels, small biases, positive variances."""
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> Array:
        name = path[-1].key
        if name in ("scale", "var"):
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        std = np.sqrt(2 / np.prod(leaf.shape[:-1])) if len(leaf.shape) == 4 else 0.1
        return jnp.asarray(std * rng.standard_normal(leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(backbone.init, jax.random.key(0)))


def tiny_backbone(pooling: str = "max") -> Backbone:
    """Three blocks of a VGG with few filters, the last one cut short as partial weights would cut it."""
    whole = VGG(((4, 4), (8,), (8, 8)), pooling=pooling)
    part = whole.truncated(frozenset(f"conv{layer}/kernel" for layer in ("1_1", "1_2", "2_1", "3_1")))
    layers = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    return Backbone("tiny", part, IMAGENET, "random", whole.layers, ("relu3_2", "relu2_1"), layers)


def compilations(compiled: Any) -> int:
    """How many programs a function under `jax.jit` has been compiled to."""
    return compiled._cache_size()


def many_devices(count: int) -> dict[str, str]:
    """Variables of a process that sees so many CPU devices and finds this folder."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(paths)}


def same_trees(left: Any, right: Any) -> bool:
    """Whether two trees of arrays are equal bit for bit."""
    leaves = jax.tree.map(lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), left, right)
    return all(jax.tree.leaves(leaves))
