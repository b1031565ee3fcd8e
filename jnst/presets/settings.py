"""The parts of a preset: the terms of its objective, its solver, schedule of sizes, network and loading."""

import dataclasses
import math
from collections.abc import Callable

import jax

from jnst.backbones import Backbone, Preprocessing
from jnst.images import SEAMLESS, Pyramid
from jnst.losses import FeatureLoss, Gram, Regularizer, SquaredError, StyleLoss, TotalVariation
from jnst.losses.objective import IMAGE, Objective, make_objective
from jnst.solve import LBFGS, Solver
from jnst.solve.optimizers import Named
from jnst.types import NO_WRAP, Wrap
from jnst.weights.trainings import TRAININGS, equivalent

MEASURES: dict[str, Callable[[int, int], float]] = {
    "side": lambda height, width: 1.0,
    "height": lambda height, width: max(height, width) / height,
    "area": lambda height, width: math.sqrt(max(height, width) / min(height, width)),
}
"""What a preset's ``size`` measures, as the factor from it to the longer side: that side itself, the height, or the
side of a square of the same area."""


@dataclasses.dataclass(frozen=True)
class Terms:
    """The terms of the objective, for any network.

    Attributes:
        content_layers: None: the first of the network's candidates that the weights reach.
        style_layers: None: those of the network's usual ones that the weights reach.
        with_image: Add the image itself ("image") in front of the usual style layers.
        skip_layers: How many of the usual style layers to leave out, starting from the shallowest.
        content_weight: The factor of the content terms.
        style_weight: The factor of the style terms.
        content_layer_weights: One factor for each layer; None: 1 each.
        style_layer_weights: One factor for each layer; None: 1 each.
        style_layer_ratio: The ratio between the weights of one style layer and the one before, at a mean of 1: below 1
            for fine texture, above 1 for large forms (geometric weights, Novak & Nikulin 2016).
        mean_of_styles: Divide the style terms by the number of style layers.
        content_loss: The loss on content layers.
        style_loss: The loss on style layers.
        tv_weight: The factor of ``total_variation``; 0 leaves the term out.
        total_variation: How smoothness is measured.
        normalize_gradients: Divide the gradient of every content and style term by its 1-norm.
    """

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

    def layers(self, backbone: Backbone) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The content layers and the style layers on a network; a joint content loss uses the style layers."""
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
        """Build the objective for a network.

        Raises:
            ArgumentError: An unknown layer, or as `jnst.make_objective`.
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


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Where a run starts, through which sizes it goes, and with how many steps.

    Attributes:
        num_steps: For each size of the pyramid; the last number holds for all further sizes.
        init: The start: ``"content"``, ``"style"`` or ``"noise"``.
        noise_std: The standard deviation of the noise, for images in [0, 1], about the mean colour of photographs.
        noise_power: The noise's amplitudes fall with the frequency f as ``f ** -noise_power``: 0 for white noise, whose
            grain remains where the losses do not see it.
        pyramid: The sizes, coarse to fine; None for one size.
        resample: A key of `jnst.images.METHODS`, for resizing inputs.
        enlarge: A key of `jnst.images.METHODS` or "bicubic-sharp", for enlarging the image between two sizes.
        carry_optimizer: Whether the optimiser's moments are enlarged with the image, instead of starting anew.
        carry_average: Whether the next size starts from the average (or best) image, instead of the last one.
        last_learning_rate: The learning rate at the last size; None: unchanged.
        content_weight_per_size: The content weight is multiplied by this at each further size.
        style_scale: The style's longer side relative to the content's: above 1 for larger strokes.
        fixed_style: Whether the style keeps its size while the image grows.
    """

    num_steps: tuple[int, ...] = (1000,)
    init: str = "content"
    noise_std: float = 0.2
    noise_power: float = 1.5
    pyramid: Pyramid | None = None
    resample: str = "bicubic"
    enlarge: str = "bicubic"
    carry_optimizer: bool = False
    carry_average: bool = False
    last_learning_rate: float | None = None
    content_weight_per_size: float = 1.0
    style_scale: float = 1.0
    fixed_style: bool = False

    def steps(self, num_sizes: int) -> tuple[int, ...]:
        """The number of steps at each of ``num_sizes`` sizes."""
        return tuple(self.num_steps[min(index, len(self.num_steps) - 1)] for index in range(num_sizes))


@dataclasses.dataclass(frozen=True)
class Network:
    """The network that a system's numbers belong to.

    Attributes:
        weights: Which training of the network the numbers belong to; None: any.
        pooling: As for `jnst.make_backbone`, like what follows; None: the network's own.
        rescale_pooling: See `jnst.make_backbone`.
        padding: See `jnst.make_backbone`.
        input_padding: See `jnst.make_backbone`.
        preprocessing: What the network is fed, with weights of this training; None: what they were trained on.
    """

    weights: str | None = None
    pooling: str | None = None
    rescale_pooling: bool | None = None
    padding: str | None = None
    input_padding: str | None = None
    preprocessing: Preprocessing | None = None

    def configure(self, backbone: Backbone) -> Backbone:
        """``backbone`` with these options, as far as it has them.

        Raises:
            ArgumentError: An unknown value of an option.
        """
        given = {name: getattr(self, name) for name in ("pooling", "rescale_pooling", "padding", "input_padding")}
        options = {name: value for name, value in given.items() if value is not None and name in backbone.options}
        backbone = backbone.with_options(**options)
        # Networks of other weights, or rewritten ones, take something else.
        if self.preprocessing is None or self.weights != backbone.training:
            return backbone
        usual = TRAININGS.get(backbone.training)
        if usual and not equivalent(backbone.preprocessing, usual.preprocessing):
            return backbone
        return dataclasses.replace(backbone, preprocessing=self.preprocessing)


@dataclasses.dataclass(frozen=True)
class Loading:
    """How image files are read. `jnst.stylize`, which is given arrays, does not use it.

    Attributes:
        size: In pixels.
        measure: What ``size`` is the length of: a key of `MEASURES`.
        rounding: ``"round"`` or ``"floor"``: what happens to a fraction of a pixel in the shorter side.
        background: The sRGB colour behind transparent pixels, in [0, 1].
    """

    size: int = 512
    measure: str = "side"
    rounding: str = "round"
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Preset:
    """A run's settings. `jnst.preset` returns one with some of its values, or those of its parts, changed.

    Attributes:
        summary: One line for lists.
        source: Where the numbers come from.
        terms: The objective.
        solver: The optimiser, its units, and averaging.
        schedule: Start, sizes and steps.
        network: The network's options.
        loading: How files are read.
        keep_color: How the content's colours are kept: a key of `jnst.images.KEEP_COLOUR`, or None.
        seamless: In which directions the result repeats without a seam: a key of `jnst.images.SEAMLESS`, or None.
        alternatives: Settings of other optimisers, where the system states them.
    """

    summary: str
    source: str
    terms: Terms = Terms()
    solver: Solver = Solver(LBFGS(), unit=255.0)  # noqa: RUF009 - frozen
    schedule: Schedule = Schedule()
    network: Network = Network()
    loading: Loading = Loading()
    keep_color: str | None = None
    seamless: str | None = None
    alternatives: tuple[Named, ...] = ()

    @property
    def wrap(self) -> Wrap:
        """The axes along which the result repeats."""
        return NO_WRAP if self.seamless is None else SEAMLESS[self.seamless]
