"""Flags of every command that makes images by optimisation: the preset, its settings, the network and the device."""

import dataclasses
import sys
from typing import Annotated, Any, ClassVar, Literal, Self

import tyro

from jnst.apps.cli.arguments import Counts, Names, Number, Numbers, Text, optional, parse_colour
from jnst.apps.cli.startup import choose_device, no_accelerator
from jnst.backbones import PADDINGS, POOLINGS, Backbone
from jnst.errors import ArgumentError
from jnst.images import Pyramid
from jnst.losses import STYLE_LOSSES
from jnst.losses.objective import IMAGE
from jnst.presets import PRESETS, Preset, preset
from jnst.presets.overrides import name_of, setting
from jnst.solve import OPTIMIZERS
from jnst.types import Params
from jnst.weights.load import load_backbone
from jnst.weights.trainings import PREPROCESSINGS

SAME_NAMES = (
    "size",
    "style_scale",
    "content_layers",
    "style_layers",
    "content_weight",
    "style_weight",
    "content_layer_weights",
    "style_layer_weights",
    "style_layer_ratio",
    "tv_weight",
    "normalize_gradients",
    "average",
    "pooling",
    "padding",
)
"""Flags that have the name and the value of a setting of `jnst.preset`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SettingsFlags:
    """Flags of every command that makes one image or many by optimisation."""

    compared: ClassVar[tuple[str, ...]] = ("content", "style")
    """What the command's loss compares."""
    memory_advice: ClassVar[str] = "--size N, --optimizer adam"
    """Flags that reduce the memory that is needed."""

    backbone: Text = None
    """Network (see jnst backbones). auto: that of --weights; without --weights the small one that jnst contains."""
    weights: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="FILE|NAME")] = ()
    """Weights file or name (see jnst weights list). If you give several, each layer comes from the first file that
    has it."""
    preprocessing: Annotated[Text, tyro.conf.arg(metavar=f"{{auto,{','.join(PREPROCESSINGS)}}}")] = None
    """Input the network expects. auto: detected from its weights."""
    preset: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(PRESETS)}}}")] = "jnst"
    """Settings of a published system (see jnst presets). Flags override the preset."""

    size: int = 512
    """Longer side of the result in pixels (gatys2017: of a square of its area; gordic, keras-example: its height)."""
    style_scale: float = 1.0
    """Longer side of the styles, relative to the result: larger values make larger strokes."""
    background: Annotated[Text, tyro.conf.arg(metavar="COLOR")] = None
    """Colour behind transparent parts of images, such as black or #ff8000. auto: white, and a single PNG, TIFF or
    WebP is as transparent as its content."""
    steps: Counts = (200,)
    """Number of steps. With a pyramid, one number for each size; the last one holds for all further sizes."""
    seed: int = 0
    """Random seed for noise and stochastic losses, from 0 to 2^32 - 1."""

    content_layers: Names = None
    """Layers on which content is compared: convB_L before the ReLU, reluB_L after it."""
    style_layers: Names = None
    """Layers on which style is compared."""
    style_statistic: Annotated[Text, tyro.conf.arg(metavar=f"{{auto,{','.join(STYLE_LOSSES)}}}")] = None
    """Style loss (see jnst statistics). auto: the preset's."""
    content_weight: float = 1.0
    """Weight of the content loss."""
    style_weight: float = 1.0
    """Weight of the style loss."""
    content_layer_weights: Numbers = None
    """Weight of each content layer. auto: 1."""
    style_layer_weights: Numbers = None
    """Weight of each style layer. auto: 1."""
    style_layer_ratio: float = 1.0
    """Ratio of the weights of consecutive style layers: below 1 for fine texture, above 1 for large shapes."""
    tv_weight: float = 0.0
    """Weight of the total variation: larger values make the image smoother."""
    normalize_gradients: bool = False
    """Normalise the gradient of each term, so that its influence depends on its weight alone."""

    optimizer: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(OPTIMIZERS)}}}")] = "lbfgs"
    """L-BFGS needs fewer steps. Adam needs less memory, and tolerates stochastic losses."""
    learning_rate: Number = None
    """Learning rate, in units of the preset's images (0 to 255 for most presets). auto: the preset's."""
    pyramid: bool = False
    """Start with a small image, and enlarge it several times during the run."""
    min_size: int = 128
    """Longer side of the smallest image of the pyramid, in pixels."""
    clamp: bool = False
    """Clip the image to its range after every step."""
    average: float = 0.0
    """Return a moving average of the iterates with this decay, for example 0.99. 0: the last or best image."""
    pooling: Annotated[Text, tyro.conf.arg(metavar=f"{{auto,{','.join(POOLINGS)}}}")] = None
    """Pooling of the network. auto: as trained."""
    padding: Annotated[Text, tyro.conf.arg(metavar=f"{{auto,{','.join(PADDINGS)}}}")] = None
    """Padding of the network. auto: as trained."""
    seamless: Annotated[Literal["both", "x", "y"] | None, optional("[both|x|y]")] = None
    """Make an image that can be repeated without a seam: in both directions, or from left to right (x) or top to
    bottom (y) alone. Sides that are multiples of 16 repeat exactly."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """Precision of the convolutions. auto: float32 on CPUs, bfloat16 on GPUs and TPUs. tf32: float32 features,
    multiplied as TF32 on NVIDIA GPUs, which is faster and less exact than float32; on CPUs it is float32."""
    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Device to compute on. auto: the fastest that JAX finds."""
    deterministic: bool = False
    """Make GPUs compute the same bits in every run, with slower operations. CPUs always do."""
    offline: bool = False
    """Do not download weights."""
    no_program_cache: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Do not keep compiled programs, which let later runs with the same sizes start faster (see the README)."""

    @classmethod
    def from_preset(cls, name: str, statistic: str | None = None) -> Self:
        """The command with the values of a preset as defaults.

        Args:
            name: The preset.
            statistic: Another style statistic than the preset's own.
        """
        settings = preset(name, style_statistic=statistic)
        required = {field.name: tyro.MISSING for field in dataclasses.fields(cls) if _is_required(field)}
        return cls(
            **required,
            preset=name,
            style_statistic=statistic,
            steps=settings.schedule.num_steps,
            optimizer=name_of(settings.solver.optimizer),  # pyright: ignore[reportArgumentType]
            pyramid=settings.schedule.pyramid is not None,
            min_size=(settings.schedule.pyramid or Pyramid()).min_size,
            clamp=settings.solver.bounds is not None,
            seamless=settings.seamless,  # pyright: ignore[reportArgumentType]
            **{field: setting(settings, field) for field in SAME_NAMES},
            **cls.own_defaults(settings),
        )

    @classmethod
    def own_defaults(cls, settings: Preset) -> dict[str, Any]:
        """The values of the command's own flags under a preset."""
        return {}

    def settings(self) -> Preset:
        """The preset, overridden by the flags."""
        if not 0 <= self.seed < 2**32:
            raise ArgumentError(f"--seed {self.seed}: expected a number from 0 to {2**32 - 1}")
        return preset(
            self.preset,
            style_statistic=self.style_statistic,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            num_steps=self.steps,
            pyramid=self.pyramid,
            min_size=self.min_size,
            clamp=self.clamp,
            seamless=self.seamless,
            background=parse_colour(self.background or "white"),
            **{name: getattr(self, name) for name in SAME_NAMES},
        )

    def choose_device(self) -> None:
        """Apply ``device`` and ``deterministic``. Call it before anything is computed.

        Raises:
            ArgumentError: There is no such device.
        """
        choose_device(self.device, self.deterministic)

    def network(self, settings: Preset) -> tuple[Backbone, Params]:
        """Load the network.

        Raises:
            ArgumentError: An unknown name, or a network without layers that the preset needs.
            WeightsError: The weights cannot be read.
        """
        options = {"precision": self.precision} if self.precision != "auto" else {}
        # The preset's own options are applied only where a network has them. Flags must be understood.
        for name in ("pooling", "padding"):
            value = getattr(self, name)
            if value not in (None, setting(preset(self.preset), name)):
                options[name] = value
        backbone, params = load_backbone(
            self.backbone,
            self.weights or None,
            preprocessing=self.preprocessing,
            offline=self.offline or None,
            **options,
        )
        self._check_layers(settings, backbone)
        return backbone, params

    def _check_layers(self, settings: Preset, backbone: Backbone) -> None:
        """Fail if the network lacks layers that the preset names. The library checks those that flags name."""
        missing = list[str]()
        flags = list[str]()
        for name in (f"{kind}_layers" for kind in self.compared):
            layers = setting(settings, name)
            if layers and layers == setting(preset(self.preset), name):
                lacking = [layer for layer in layers if layer not in (*backbone.all_layers, IMAGE)]
                missing += lacking
                flags += [f"--{name.replace('_', '-')}"] * bool(lacking)
        if missing:
            raise ArgumentError(
                f"preset {self.preset} needs {', '.join(dict.fromkeys(missing))}, which {backbone.name} does not have: "
                f"choose a network that has them, such as --backbone vgg19, or set {' and '.join(flags)} "
                "(see jnst backbones)"
            )


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING


def remark(settings: Preset, name: str, backbone: Backbone) -> None:
    """Print what may surprise: that there is no accelerator, or that the preset's numbers belong to other weights.

    Args:
        settings: The preset, overridden by flags.
        name: The preset's name.
        backbone: The network.
    """
    if (reason := no_accelerator()) is not None:
        print(f"jnst: {reason}, running on the CPU", file=sys.stderr)
    weights = settings.network.weights
    if weights and backbone.training != weights:
        print(
            f"jnst: preset {name} is meant for {weights} weights, but these are {backbone.training}: loss values and "
            "the balance of content and style will differ",
            file=sys.stderr,
        )
