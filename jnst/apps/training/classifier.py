"""A classifier as pure functions: its parameters, its loss, a step of training and of testing.

The trunk is a backbone of `jnst.backbones`; the head is the mean over all positions and one dense layer, so that
images of any size will do and every feature learns to say something by itself.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jnst.apps.training.augment import Augmentation
from jnst.apps.training.batches import Batch
from jnst.backbones import Backbone
from jnst.errors import ArgumentError
from jnst.types import Array, Image, Params, RandomKey

SCHEDULES: dict[str, Callable[[float, int], optax.Schedule]] = {
    "constant": lambda rate, steps: optax.constant_schedule(rate),
    "cosine": optax.cosine_decay_schedule,
}
"""The learning rate over time, from the first one and the number of steps."""

DTYPES: dict[str, Any] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
"""What convolutions are computed in; parameters, head and losses are float32."""

MOST_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train; the defaults are Adam at 1e-3 for 10 epochs in batches of 32.

    Attributes:
        epochs: How often every image is seen.
        batch_size: Images in a step.
        size: The side of a view in pixels.
        learning_rate: Of Adam.
        weight_decay: Decoupled (AdamW), of kernels only; 0 for none.
        schedule: A key of `SCHEDULES`.
        seed: Of initial parameters, order and views, from 0 to 2^32 - 1.
        dtype: A key of `DTYPES`.
        augmentation: How views vary.

    Raises:
        ArgumentError: A value that makes no sense.

    References:
        Kingma & Ba, Adam, ICLR 2015; Loshchilov & Hutter, Decoupled Weight Decay Regularization, ICLR 2019.
    """

    epochs: int = 10
    batch_size: int = 32
    size: int = 224
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "constant"
    seed: int = 0
    dtype: str = "float32"
    augmentation: Augmentation = Augmentation()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "size"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} {getattr(self, name)}: expected a whole number from 1")
        if not 0 <= self.seed <= MOST_SEED:
            raise ArgumentError(f"seed {self.seed}: expected a whole number from 0 to {MOST_SEED}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ArgumentError(f"learning rate {self.learning_rate}: expected a number above 0, for example 1e-3")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ArgumentError(f"weight decay {self.weight_decay}: expected 0 or more, for example 1e-4")
        for name, value, table in (("schedule", self.schedule, SCHEDULES), ("dtype", self.dtype, DTYPES)):
            if value not in table:
                raise ArgumentError(f"{name} {value!r} is unknown: choose one of {', '.join(table)}")

    def optimizer(self, num_steps: int) -> optax.GradientTransformation:
        """Adam or AdamW, for a run of so many steps."""
        rate = SCHEDULES[self.schedule](self.learning_rate, num_steps)
        if self.weight_decay == 0:
            return optax.adam(rate)
        kernels = partial(jax.tree.map, lambda param: param.ndim > 1)
        return optax.adamw(rate, weight_decay=self.weight_decay, mask=kernels)


class State(NamedTuple):
    """What training changes.

    Attributes:
        params: ``{"trunk": the backbone's parameters, "head": {"kernel": (c, classes), "bias": (classes,)}}``, float32.
        optimizer: Optax's state.
    """

    params: Params
    optimizer: optax.OptState


class Sums(NamedTuple):
    """Sums over the images of a batch that count: of losses, of right answers, and of images."""

    loss: Array
    right: Array
    images: Array


@partial(jax.jit, static_argnames=("backbone", "num_classes"))
def init_params(key: RandomKey, backbone: Backbone, num_classes: int) -> Params:
    """Random parameters: He-normal kernels, zero biases.

    References:
        He et al., Delving Deep into Rectifiers, ICCV 2015.
    """
    trunk_key, head_key = jax.random.split(key)
    trunk = backbone.init(trunk_key)
    channels = num_features(backbone, trunk)
    kernel = jax.nn.initializers.he_normal()(head_key, (channels, num_classes), jnp.float32)
    return {"trunk": trunk, "head": {"kernel": kernel, "bias": jnp.zeros(num_classes)}}


def num_features(backbone: Backbone, trunk: Params) -> int:
    """The number of channels of the backbone's last layer."""
    last = backbone.layers[-1]
    side = backbone.smallest_side((last,))
    image = jax.ShapeDtypeStruct((side, side, 3), jnp.float32)
    return jax.eval_shape(lambda params, x: backbone.apply(params, x, (last,)), trunk, image)[last].shape[-1]


def logits(params: Params, images: Image, *, backbone: Backbone, dtype: str = "float32") -> Array:
    """Compute the classes' logits.

    Args:
        params: As in `State`.
        images: ``(n, h, w, 3)``, sRGB in [0, 1].
        backbone: The trunk (static).
        dtype: A key of `DTYPES`.

    Returns:
        ``(n, classes)`` in float32.
    """
    trunk = jax.tree.map(lambda leaf: leaf.astype(DTYPES[dtype]), params["trunk"])
    last = backbone.layers[-1]
    features = backbone.apply(trunk, images, (last,))[last]
    pooled = jnp.mean(features.astype(jnp.float32), axis=(-3, -2))
    return pooled @ params["head"]["kernel"] + params["head"]["bias"]


def batch_loss(params: Params, batch: Batch, *, backbone: Backbone, dtype: str = "float32") -> tuple[Array, Sums]:
    """The mean softmax cross-entropy in nats over the images that count, and the sums that it is made of."""
    images = jnp.asarray(batch.images, jnp.float32) / 255
    scores = logits(params, images, backbone=backbone, dtype=dtype)
    losses = optax.softmax_cross_entropy_with_integer_labels(scores, jnp.asarray(batch.labels))
    right = jnp.argmax(scores, axis=-1) == batch.labels
    sums = Sums(*(jnp.sum(values * batch.weights) for values in (losses, right, jnp.ones_like(losses))))
    return sums.loss / sums.images, sums


def init_state(key: RandomKey, backbone: Backbone, num_classes: int, settings: Settings) -> State:
    """The state before the first step."""
    params = init_params(key, backbone, num_classes)
    return State(params, settings.optimizer(1).init(params))


@partial(jax.jit, static_argnames=("backbone", "settings", "num_steps"))
def train_step(
    state: State, batch: Batch, *, backbone: Backbone, settings: Settings, num_steps: int
) -> tuple[State, Sums]:
    """One step of the optimiser.

    Args:
        state: Before the step.
        batch: Images and classes.
        backbone: The trunk (static).
        settings: Those of the run (static).
        num_steps: Of the whole run (static), for the schedule.

    Returns:
        The state after the step, and the batch's sums before it.
    """
    gradient_of = jax.grad(partial(batch_loss, backbone=backbone, dtype=settings.dtype), has_aux=True)
    gradients, sums = gradient_of(state.params, batch)
    updates, optimizer = settings.optimizer(num_steps).update(gradients, state.optimizer, state.params)
    return State(optax.apply_updates(state.params, updates), optimizer), sums  # pyright: ignore[reportArgumentType]


@partial(jax.jit, static_argnames=("backbone", "dtype"))
def evaluate_step(params: Params, batch: Batch, *, backbone: Backbone, dtype: str = "float32") -> Sums:
    """The sums of a batch, without learning from it."""
    return batch_loss(params, batch, backbone=backbone, dtype=dtype)[1]
