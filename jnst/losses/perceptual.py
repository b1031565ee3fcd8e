"""An objective as a loss for training: ``loss(params, prediction, target)``."""

import dataclasses
from functools import partial

import jax
import numpy as np

from jnst.backbones import Backbone
from jnst.errors import ArgumentError
from jnst.images.check import ImageInput, check_images, check_pair
from jnst.losses.objective import Objective, Targets, total_loss
from jnst.losses.targets import fit_targets
from jnst.types import Image, Params, PerImage, RandomKey


@partial(jax.tree_util.register_dataclass, data_fields=["objective"], meta_fields=["backbone", "frozen"])
@dataclasses.dataclass(frozen=True)
class PerceptualLoss:
    """A perceptual loss for training: ``loss(params, prediction, target)``, one value per image.

    Content terms compare the features of prediction and target position by position, style terms compare their
    statistics. The loss is a pure function under `jax.jit`, `jax.vmap`, `jax.grad` and `jax.shard_map`, and does not
    care what makes the predictions: a Flax Linen, NNX or Equinox module, or a plain function. It is also a pytree whose
    leaves are the objective's weights: pass it to `jax.jit` as an argument to change weights without compiling again,
    or differentiate by it. Pass ``params`` as an argument too: XLA would copy what a compiled function closes over.

    Memory: the gradient needs what a step of `jnst.stylize` does, for each prediction: the features of the compared
    layers, and a byte for each value in between. Of targets only what the terms compare is kept. `jnst.random_crops`
    makes both smaller.

    Attributes:
        objective: The terms and their weights, from `jnst.make_objective`.
        backbone: The network.
        frozen: Whether the parameters are constants for derivatives. False: they have gradients.

    References:
        Johnson, Alahi & Fei-Fei, Perceptual Losses for Real-Time Style Transfer and Super-Resolution, ECCV 2016.

    Examples:
        >>> import jax, jnst
        >>> backbone, params = jnst.load_backbone()
        >>> objective = jnst.make_objective(content_layers=("relu2_1",), style_layers=("relu1_1",), style_weight=10.0)
        >>> loss = jnst.PerceptualLoss(objective, backbone)
        >>> predictions, targets = jax.numpy.zeros((4, 32, 32, 3)), jax.numpy.ones((4, 32, 32, 3))
        >>> loss(params, predictions, targets).shape
        (4,)
    """

    objective: Objective
    backbone: Backbone
    frozen: bool = True

    def fit(self, params: Params, target: ImageInput) -> Targets:
        """Compute what the loss keeps of targets, to use them many times in place of the images.

        ``jnst.fit_content(content, ...) + jnst.fit_style(style, ...)`` fit the terms to two different images.
        """
        target = check_images(target, "target")
        return fit_targets(target, target, self.objective, self._constants(params), backbone=self.backbone)

    def __call__(
        self, params: Params, prediction: ImageInput, target: ImageInput | Targets, *, key: RandomKey | None = None
    ) -> PerImage:
        """Evaluate the loss.

        Args:
            params: The network's parameters, also prepared ones (`Backbone.prepare`).
            prediction: ``(..., h, w, 3)`` in [0, 1], of any floating-point dtype; sums are float32.
            target: The same size, leading axes broadcast; or `Targets`, from `fit`, `jnst.fit_content` and
                `jnst.fit_style`. If they depend on what is trained, they have gradients; `jax.lax.stop_gradient` makes
                them constants.
            key: For stochastic losses; see `jnst.total_loss`.

        Returns:
            ``(...)`` in float32, 0 at the target itself except for regularizers.

        Raises:
            ArgumentError: Targets that were fitted for other terms, or whose leading axes do not broadcast; content
                targets of another size.
            ImageError: Not images in [0, 1], images of different sizes or too small for a layer. Values are only
                checked outside of `jax.jit`.
        """
        if isinstance(target, Targets):
            prediction = check_images(prediction, "prediction")
            self._check_terms(target)
        else:
            prediction, target = check_pair(prediction, target, ("prediction", "target"))
        if layers := self.objective.layers:
            self.backbone.check_size(prediction, layers, "prediction")
        if isinstance(target, Targets):
            self._check_axes(target, params, prediction)
        else:
            target = self.fit(params, target)
        constants, backbone = self._constants(params), self.backbone
        return total_loss(prediction, self.objective, target, constants, backbone=backbone, key=key)[0]

    def prepare(self, params: Params) -> Params:
        """Prepare parameters for speed, before a loop: see `Backbone.prepare`, also for the precision."""
        return self.backbone.prepare(params)

    def _constants(self, params: Params) -> Params:
        return jax.lax.stop_gradient(params) if self.frozen else params

    def _check_terms(self, targets: Targets) -> None:
        fitted, terms = (f"{len(x.content)} content and {len(x.style)} style" for x in (targets, self.objective))
        if fitted != terms:
            raise ArgumentError(
                f"targets for {fitted} terms, but the objective has {terms}: fit them with the same objective"
            )

    def _check_axes(self, targets: Targets, params: Params, prediction: Image) -> None:
        one = jax.eval_shape(self.fit, params, jax.ShapeDtypeStruct(prediction.shape[-3:], prediction.dtype))
        pairs = list(zip(targets.content, one.content, strict=True))
        for regions, (whole,) in zip(targets.style, one.style, strict=True):
            pairs += [(region.target, whole.target) for region in regions]
        for target, single in pairs:
            for leaf, of_one in zip(jax.tree.leaves(target), jax.tree.leaves(single), strict=True):
                axes = leaf.shape[: leaf.ndim - of_one.ndim]
                if not _broadcast(axes, prediction.shape[:-3]):
                    raise ArgumentError(
                        f"`prediction` has leading axes {prediction.shape[:-3]}, the fitted targets {axes}, which do "
                        "not broadcast: fit equally many targets, or one"
                    )


def _broadcast(*shapes: tuple[int, ...]) -> bool:
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        return False
    return True
