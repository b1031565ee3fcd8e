"""What a preset is: everything about a run but the images and the weights."""

import dataclasses
import math
from collections.abc import Callable

import jax

from jnst.backbones import Backbone, Preprocessing
from jnst.images import Pyramid
from jnst.losses import FeatureLoss, Gram, Regularizer, SquaredError, StyleLoss, TotalVariation
from jnst.losses.objective import IMAGE, Objective, make_objective
from jnst.solve.optimizers import LBFGS, Settings

MEASURES: dict[str, Callable[[int, int], float]] = {
    "side": lambda height, width: 1.0,
    "height": lambda height, width: max(height, width) / height,
    "area": lambda height, width: math.sqrt(max(height, width) / min(height, width)),
}
"""What sizes are of, each as the longer side over it: the longer side, the height, or a square of the same area."""

NETWORK_OPTIONS = ("pooling", "rescale_pooling", "padding", "input_padding")
"""The fields of `Preset` that are options of a network."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """A run's settings.

    ``size``, ``measure``, ``rounding`` and ``weights`` tell the command line what to load; `stylize`, which is given
    images and parameters, uses all other fields.

    Attributes:
        summary: One line for lists.
        source: Where the numbers come from.
        content_layers: None: the first of the backbone's candidates that the weights reach.
        style_layers: None: those of the backbone's usual ones that the weights reach.
        with_image: Add the image itself ("image") in front of the usual style layers.
        skip_layers: So many of the usual style layers are left out, from the shallowest.
        content_weight: Factor of the content terms.
        style_weight: Factor of the style terms.
        content_layer_weights: One factor a layer; None for 1 each.
        style_layer_weights: One factor a layer; None for 1 each.
        style_layer_ratio: Each style layer counts this times the one before, at a mean of 1: below 1 for fine
            texture, above 1 for large forms (Novak & Nikulin 2016: geometric weights).
        mean_of_styles: Divide the style terms by the number of style layers.
        content_loss: The loss on content layers.
        style_loss: The loss on style layers.
        tv_weight: Factor of ``total_variation``; 0 leaves the term out.
        total_variation: How smoothness is measured.
        normalize_gradients: Divide the gradient of every content and style term by its 1-norm.
        optimizer: What minimises.
        alternatives: Settings of other optimisers, where the system states them.
        last_learning_rate: The optimiser's at the last size of a pyramid; None: as before.
        unit: The optimiser sees the image times this: 255 for systems that optimise 0-255 images.
        num_steps: For each size of the pyramid; the last number holds for all further sizes.
        size: In pixels.
        measure: A key of `MEASURES`: what ``size`` is the length of.
        resample: A key of `jnst.images.METHODS`, for resizing.
        enlarge: A key of `jnst.images.METHODS` or "bicubic-sharp", for the step from one size of a pyramid to the next.
        rounding: ``"round"`` or ``"floor"``: what becomes of a fraction of a pixel in the shorter side.
        init: The start: ``"content"``, ``"style"`` or ``"noise"``.
        noise_std: Standard deviation of the noise, in an image's range [0, 1], about the mean colour of photographs.
        clamp: Clip the image to [0, 1] after every step.
        average: Decay of an average of iterates; 0 for none.
        keep_best: Return the image with the lowest loss instead of the last.
        pyramid: Coarse to fine; None for one size.
        content_weight_per_size: The content weight is multiplied by this at each further size of the pyramid.
        style_scale: The style's longer side beside the content's: more for larger strokes.
        fixed_style: Whether the style keeps its size while the image grows.
        carry_optimizer: Whether the optimiser's moments are enlarged with the image, instead of beginning anew.
        carry_average: Whether the next size begins from the average (or best) image, instead of the last.
        keep_color: A key of `jnst.images.keep_colour.KEEP_COLOUR`, or None.
        weights: Which training of the network the numbers belong to; None: any.
        pooling: The network's, like what follows, where the system departs from the usual; None: the backbone's own.
        rescale_pooling: See `jnst.make_backbone`.
        padding: See `jnst.make_backbone`.
        input_padding: See `jnst.make_backbone`.
        preprocessing: What the network is fed.
    """

    summary: str
    source: str
    content_layers: tuple[str, ...] | None = None
    style_layers: tuple[str, ...] | None = None
    with_image: bool = False
    skip_layers: int = 0
    content_weight: float = 1.0
    style_weight: float = 1.0
    content_layer_weights: tuple[float, ...] | None = None
    style_layer_weights: tuple[float, ...] | None = None
    style_layer_ratio: float = 1.0
    mean_of_styles: bool = False
    content_loss: FeatureLoss = SquaredError()  # noqa: RUF009 - frozen
    style_loss: StyleLoss = Gram()  # noqa: RUF009 - frozen
    tv_weight: float = 0.0
    total_variation: Regularizer = TotalVariation()  # noqa: RUF009 - frozen
    normalize_gradients: bool = False
    optimizer: Settings = LBFGS()  # noqa: RUF009 - frozen
    alternatives: tuple[Settings, ...] = ()
    last_learning_rate: float | None = None
    unit: float = 255.0
    num_steps: tuple[int, ...] = (1000,)
    size: int = 512
    measure: str = "side"
    resample: str = "bicubic"
    enlarge: str = "bicubic"
    rounding: str = "round"
    init: str = "content"
    noise_std: float = 0.2
    clamp: bool = False
    average: float = 0.0
    keep_best: bool = False
    pyramid: Pyramid | None = None
    content_weight_per_size: float = 1.0
    style_scale: float = 1.0
    fixed_style: bool = False
    carry_optimizer: bool = False
    carry_average: bool = False
    keep_color: str | None = None
    weights: str | None = None
    pooling: str | None = None
    rescale_pooling: bool | None = None
    padding: str | None = None
    input_padding: str | None = None
    preprocessing: Preprocessing | None = None

    def network(self, backbone: Backbone) -> Backbone:
        """``backbone`` with the options that the preset states, as far as it has them.

        The preprocessing is replaced only for the weights that the preset's numbers belong to: others were trained on
        something else.

        Raises:
            ArgumentError: An unknown value of an option.
        """
        options = {name: getattr(self, name) for name in NETWORK_OPTIONS if name in backbone.options}
        backbone = backbone.with_options(**{name: value for name, value in options.items() if value is not None})
        if self.preprocessing is None or self.weights != backbone.training:
            return backbone
        return dataclasses.replace(backbone, preprocessing=self.preprocessing)

    def layers(self, backbone: Backbone) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The content layers and the style layers on ``backbone``; a joint content loss sees the style layers."""
        style = self.style_layers
        if style is None:
            usual = tuple(layer for layer in backbone.style_layers if layer in backbone.layers)
            style = (*([IMAGE] if self.with_image else []), *usual[min(self.skip_layers, len(usual) - 1) :])
        content = self.content_layers
        if content is None and self.content_loss.joint:
            return style, style
        if content is None:
            content = tuple(layer for layer in backbone.content_layers if layer in backbone.layers)[:1]
        return content, style

    def objective(self, backbone: Backbone) -> Objective:
        """Build what is minimised.

        Raises:
            ArgumentError: As `make_objective`, or an unknown layer.
            WeightsError: A layer beyond the weights.
        """
        content, style = self.layers(backbone)
        for layers in (content, style):
            if any(layer != IMAGE for layer in layers):
                backbone.check_layers(layer for layer in layers if layer != IMAGE)
        objective = make_objective(
            content_layers=content,
            style_layers=style,
            content_weight=self.content_weight,
            style_weight=self.style_weight,
            content_layer_weights=self.content_layer_weights,
            style_layer_weights=self._style_layer_weights(style),
            content_loss=self.content_loss,
            style_loss=self.style_loss,
            regularizers={"tv": (self.total_variation, self.tv_weight)} if self.tv_weight else {},
            normalize_gradients=self.normalize_gradients,
        )
        if not self.mean_of_styles:
            return objective
        return dataclasses.replace(objective, style=jax.tree.map(lambda weight: weight / len(style), objective.style))

    def _style_layer_weights(self, layers: tuple[str, ...]) -> tuple[float, ...] | None:
        """The stated weights times a geometric series whose mean is 1."""
        if self.style_layer_ratio == 1.0:
            return self.style_layer_weights
        series = [self.style_layer_ratio**index for index in range(len(layers))]
        weights = self.style_layer_weights or (1.0,) * len(layers)
        if len(weights) != len(layers):
            return weights
        return tuple(
            weight * factor * len(series) / sum(series) for weight, factor in zip(weights, series, strict=True)
        )
