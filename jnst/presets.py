"""Published systems' settings, as data, and our own.

A `Preset` says everything about a run but the pictures and the weights: change one with `preset(name, field=value)`.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

import jax

from jnst.backbones import Backbone
from jnst.errors import JnstError
from jnst.image import Pyramid
from jnst.losses import FeatureLoss, Gram, Regularizer, SquaredError, TotalVariation
from jnst.objective import Objective, make_objective
from jnst.optimizers import LBFGS, Adam

STD5 = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
"""The style layers of Gatys 2016 and of nearly every program since."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """A run's settings.

    ``size``, ``size_is_area``, ``rounding`` and ``weights`` tell the command line what to load; `stylize`, which is
    given pictures and parameters, uses all other fields.

    Attributes:
        summary: One line for lists.
        source: Where the numbers come from.
        content_layers: None: the first of the backbone's candidates that the weights reach.
        style_layers: None: those of the backbone's usual ones that the weights reach.
        content_weight: Factor of the content terms.
        style_weight: Factor of the style terms.
        content_layer_weights: One factor a layer; None for 1 each.
        style_layer_weights: One factor a layer; None for 1 each.
        mean_of_styles: Divide the style terms by their number.
        content_loss: The loss on content layers.
        style_loss: The loss on style layers.
        tv_weight: Factor of ``total_variation``; 0 leaves the term out.
        total_variation: How smoothness is measured.
        optimizer: What minimises.
        alternatives: Settings of other optimisers, where the system states them.
        unit: The optimiser sees the picture times this: 255 for systems that optimise 0-255 pictures.
        num_steps: For each size of the pyramid; the last number holds for all further sizes.
        size: In pixels: the longer side, or with ``size_is_area`` the side of a square of the same area.
        size_is_area: See ``size``.
        resample: A key of `jnst.image.METHODS`, for resizing.
        rounding: ``"round"`` or ``"floor"``: what becomes of a fraction of a pixel in the shorter side.
        init: The start: ``"content"``, ``"style"`` or ``"noise"``.
        noise_std: Standard deviation of the noise, in a picture's range [0, 1], about the mean colour of photographs.
        clamp: Clip the picture to [0, 1] after every step.
        average: Decay of an average of iterates; 0 for none.
        keep_best: Return the picture with the lowest loss instead of the last.
        pyramid: Coarse to fine; None for one size.
        weights: Which training of the network the numbers belong to; None: any.
        pooling: The network's pooling, where the system departs from the usual one; None: the backbone's own.
    """

    summary: str
    source: str
    content_layers: tuple[str, ...] | None = None
    style_layers: tuple[str, ...] | None = None
    content_weight: float = 1.0
    style_weight: float = 1.0
    content_layer_weights: tuple[float, ...] | None = None
    style_layer_weights: tuple[float, ...] | None = None
    mean_of_styles: bool = False
    content_loss: FeatureLoss = SquaredError()  # noqa: RUF009 - frozen
    style_loss: FeatureLoss = Gram()  # noqa: RUF009 - frozen
    tv_weight: float = 0.0
    total_variation: Regularizer = TotalVariation()  # noqa: RUF009 - frozen
    optimizer: Adam | LBFGS = LBFGS()  # noqa: RUF009 - frozen
    alternatives: tuple[Adam | LBFGS, ...] = ()
    unit: float = 255.0
    num_steps: tuple[int, ...] = (1000,)
    size: int = 512
    size_is_area: bool = False
    resample: str = "bicubic"
    rounding: str = "round"
    init: str = "content"
    noise_std: float = 0.2
    clamp: bool = False
    average: float = 0.0
    keep_best: bool = False
    pyramid: Pyramid | None = None
    weights: str | None = None
    pooling: str | None = None

    def layers(self, backbone: Backbone) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The content layers and the style layers on ``backbone``."""
        content = self.content_layers
        if content is None:
            content = tuple(layer for layer in backbone.content_layers if layer in backbone.layers)[:1]
        style = self.style_layers
        if style is None:
            style = tuple(layer for layer in backbone.style_layers if layer in backbone.layers)
        return content, style

    def objective(self, backbone: Backbone) -> Objective:
        """Build what is minimised.

        Raises:
            JnstError: As `make_objective`, or an unknown layer.
            WeightsError: A layer beyond the weights.
        """
        content, style = self.layers(backbone)
        for layers in filter(None, (content, style)):
            backbone.check_layers(layers)
        objective = make_objective(
            content_layers=content,
            style_layers=style,
            content_weight=self.content_weight,
            style_weight=self.style_weight,
            content_layer_weights=self.content_layer_weights,
            style_layer_weights=self.style_layer_weights,
            content_loss=self.content_loss,
            style_loss=self.style_loss,
            regularizers={"tv": (self.total_variation, self.tv_weight)} if self.tv_weight else {},
        )
        if not self.mean_of_styles:
            return objective
        return dataclasses.replace(objective, style=jax.tree.map(lambda weight: weight / len(style), objective.style))


PRESETS: dict[str, Preset] = {
    "jnst": Preset(
        summary="Our default: losses relative to their targets, so that it works alike on every network.",
        source="jnst",
        content_loss=SquaredError("relative"),
        style_loss=Gram("chw", "relative"),
        style_weight=100.0,
        mean_of_styles=True,
        num_steps=(100, 60),
        pyramid=Pyramid(),
    ),
    "neural-style-pt": Preset(
        summary="ProGamerGov's PyTorch port of neural-style.",
        weights="oxford",
        source="github.com/ProGamerGov/neural-style-pt, the code's defaults",
        content_layers=("relu4_2",),
        style_layers=STD5,
        content_weight=5.0,
        style_weight=100.0,
        style_loss=Gram("chw", "mean"),
        tv_weight=1e-3,
        total_variation=TotalVariation("l1", "sum", value_range=255.0),
        optimizer=LBFGS(memory_size=100),
        alternatives=(Adam(1.0),),
        init="noise",
        noise_std=0.001 / 255,
        resample="bilinear",
        rounding="floor",
    ),
    "gatys2016": Preset(
        summary="The first paper: sums of squares before the ReLU, average pooling, from white noise.",
        weights="oxford",
        source="Gatys, Ecker & Bethge, CVPR 2016 (alpha/beta = 1e-3)",
        content_layers=("conv4_2",),
        style_layers=tuple(layer.replace("relu", "conv") for layer in STD5),
        content_loss=SquaredError("half_sum"),
        style_loss=Gram("hw", "quarter_mean"),
        style_weight=1e3,
        mean_of_styles=True,
        init="noise",
        pooling="avg",
    ),
    "gatys2017": Preset(
        summary="Gatys' own later code: two sizes, 500 steps at half size, then 200.",
        weights="oxford",
        source="Gatys et al., CVPR 2017; github.com/leongatys/NeuralImageSynthesis",
        content_layers=("relu4_2",),
        style_layers=STD5,
        # (1e3 / c²) MSE(F Fᵀ / n) is 1e3 MSE(F Fᵀ / (c n)).
        style_loss=Gram("chw", "mean"),
        style_weight=1e3,
        num_steps=(500, 200),
        size=1024,
        size_is_area=True,
        pyramid=Pyramid(factor=2.0, min_size=1, levels=2),
    ),
    "tf-blogpost": Preset(
        summary="The eager TensorFlow tutorial of 2018, which most Keras notebooks copy.",
        weights="oxford",
        source="TensorFlow blog, Neural Style Transfer with tf.keras and eager execution, August 2018",
        content_layers=("relu5_2",),
        style_layers=STD5,
        content_weight=1e3,
        style_weight=1e-2,
        style_loss=Gram("hw", "mean"),
        mean_of_styles=True,
        optimizer=Adam(5.0, b1=0.99, eps=0.1),
        resample="lanczos",
        clamp=True,
        keep_best=True,
    ),
    "scratch-cnn": Preset(
        summary="A small classifier of one's own (jnst train classifier) in place of VGG.",
        source="jnst, after student projects: three convolutions, style weight 1e6, 800 steps at 128 pixels",
        weights="classifier",
        content_layers=("relu3_1",),
        style_layers=("relu1_1", "relu2_1", "relu3_1"),
        style_weight=1e6,
        style_loss=Gram("chw", "mean"),
        optimizer=Adam(0.01),
        unit=1.0,
        num_steps=(800,),
        size=128,
        clamp=True,
    ),
}
"""Every preset by name."""


def preset(name: str | Preset = "jnst", **changes: Any) -> Preset:
    """Return a preset, with some of its fields changed.

    Args:
        name: A key of `PRESETS`, or a preset.
        **changes: Fields of `Preset` and their new values.

    Raises:
        JnstError: An unknown name or field; the message names near matches.
    """
    if isinstance(name, str) and name not in PRESETS:
        raise JnstError(f"unknown preset {name!r}: {_hint(name, PRESETS)}")
    base = PRESETS[name] if isinstance(name, str) else name
    fields = {field.name: field for field in dataclasses.fields(Preset)}
    for change in changes:
        if change not in fields:
            raise JnstError(f"presets have no field {change!r}: {_hint(change, fields)}")
    return dataclasses.replace(base, **changes)


def _hint(name: str, choices: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, choices, n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(choices)}"
