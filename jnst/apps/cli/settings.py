"""The flags that say how images are made: the network, the preset, and what is changed in it."""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal, Self

import tyro

from jnst.apps.cli.arguments import Counts, Names, Number, Numbers, Text
from jnst.apps.cli.devices import choose_device
from jnst.apps.cli.inputs import check_preset_layers
from jnst.backbones import Backbone
from jnst.errors import ArgumentError
from jnst.images import Pyramid
from jnst.losses import STYLE_LOSSES
from jnst.presets import PRESETS, Preset, preset, with_style_statistic
from jnst.presets.optimizer import name_of, with_optimizer
from jnst.solve.compilation import keep_programs
from jnst.types import Params
from jnst.weights.cache import root
from jnst.weights.load import load_backbone

SAME_NAMES = (
    "content_layers",
    "style_layers",
    "content_weight",
    "style_weight",
    "content_layer_weights",
    "style_layer_weights",
    "style_layer_ratio",
    "tv_weight",
    "size",
    "style_scale",
    "normalize_gradients",
    "clamp",
    "average",
    "pooling",
)
"""The flags that are fields of `Preset` as they stand."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SettingsFlags:
    """Flags of every command that makes images by optimisation, one or many."""

    compared: ClassVar[tuple[str, ...]] = ("content", "style")
    """Of what features are compared."""

    backbone: Text = None
    """The network (see `jnst backbones`); auto: what the weights file holds."""
    weights: Text = None
    """Pretrained weights: model.json (TensorFlow.js), .h5, .pth, .safetensors or .npz; auto: the embedded network."""
    preset: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(PRESETS)}}}")] = "jnst"
    """A published system's settings (see `jnst presets`)."""

    size: int = 512
    """The longer side of the result in pixels (of gatys2017 a square's, of gordic and keras-example the height)."""
    style_scale: float = 1.0
    """The styles' longer side over the result's: more makes larger strokes."""
    steps: Counts = (200,)
    """Steps; with a pyramid, one number for each size, the last for all further ones."""
    seed: int = 0
    """For noise and losses that draw at random; 0 to 2^32 - 1."""

    content_layers: Names = None
    """Layers on which content is compared: convB_L before a ReLU, reluB_L after it."""
    style_layers: Names = None
    """Layers on which style is compared."""
    style_statistic: Annotated[Text, tyro.conf.arg(metavar=f"{{auto,{','.join(STYLE_LOSSES)}}}")] = None
    """How style is compared; auto: as the preset does."""
    content_weight: float = 1.0
    """More keeps more of the content."""
    style_weight: float = 1.0
    """More takes more of the style."""
    content_layer_weights: Numbers = None
    """A further factor for each content layer."""
    style_layer_weights: Numbers = None
    """A further factor for each style layer."""
    style_layer_ratio: float = 1.0
    """Each style layer counts this times the one before: below 1 for fine texture, above for large forms."""
    tv_weight: float = 0.0
    """Weight of total variation: more makes smoother."""
    normalize_gradients: bool = False
    """Give the gradients of all terms one size, so that weights alone decide."""

    optimizer: Literal["adam", "lbfgs", "lbfgs-waves", "lbfgs-zoom", "rmsprop", "sgd"] = "lbfgs"
    """L-BFGS makes more of a step, Adam needs less memory and bears losses that draw at random."""
    learning_rate: Number = None
    """Step length, in units of the images that the preset's system optimises (0-255 for most)."""
    pyramid: bool = False
    """Begin at a small size and enlarge it step by step: by the square root of 2, or as the preset says."""
    min_size: int = 128
    """The smallest longer side of the pyramid."""
    clamp: bool = False
    """Clip the image to its range after every step."""
    average: float = 0.0
    """Decay of an average of iterates, such as 0.99; 0 for none."""
    pooling: Text = None
    """The network's pooling: max, avg or l2; auto: the preset's, else as trained."""
    padding: Text = None
    """How the network continues an image past its border: zero, reflect or replicate; auto: as trained."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """How exactly the network is computed; auto: as is fastest on this device."""
    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Where it is computed; auto: the fastest that JAX finds."""
    deterministic: bool = False
    """The same bits at every run on a GPU too, by slower operations; on CPUs they are the same anyway."""
    offline: bool = False
    """Never download weights."""
    keep_programs: bool = False
    """Keep compiled programs in jnst's cache folder, so that the next run of these sizes starts sooner."""

    @classmethod
    def from_preset(cls, name: str, statistic: str | None = None) -> Self:
        """The defaults under a preset, and under another style statistic than its own."""
        settings = _settings(name, statistic)
        missing = {field.name: tyro.MISSING for field in dataclasses.fields(cls) if _required(field)}
        return cls(
            **missing,
            preset=name,
            style_statistic=statistic,
            steps=settings.num_steps,
            optimizer=name_of(settings.optimizer),  # pyright: ignore[reportArgumentType]
            pyramid=settings.pyramid is not None,
            min_size=(settings.pyramid or Pyramid()).min_size,
            **{field: getattr(settings, field) for field in SAME_NAMES},
            **cls.own_defaults(settings),
        )

    @classmethod
    def own_defaults(cls, settings: Preset) -> dict[str, Any]:
        """The defaults of a command's own flags under a preset."""
        return {}

    def settings(self) -> Preset:
        """The preset with the flags put in."""
        base = _settings(self.preset, self.style_statistic)
        changes: dict[str, Any] = {field: getattr(self, field) for field in SAME_NAMES}
        changes["num_steps"] = self.steps
        pyramid = dataclasses.replace(base.pyramid or Pyramid(), min_size=self.min_size)
        changes["pyramid"] = pyramid if self.pyramid else None
        if self.padding is not None:
            changes["padding"] = self.padding
        if self.average:
            changes["keep_best"] = False
        if not 0 <= self.seed < 2**32:
            raise ArgumentError(f"--seed {self.seed}: expected a number from 0 to {2**32 - 1}")
        return preset(with_optimizer(base, self.optimizer, self.learning_rate), **changes)

    def choose_device(self) -> None:
        """See to what ``device`` and ``deterministic`` ask for, before anything is computed.

        Raises:
            ArgumentError: There is no such device.
        """
        choose_device(self.device, self.deterministic)

    def network(self, settings: Preset) -> tuple[Backbone, Params]:
        """The network, loaded.

        Raises:
            ArgumentError: An unknown name, or one that lacks layers which the preset states.
            WeightsError: Weights that cannot be read.
        """
        if self.keep_programs:
            keep_programs(root() / "programs")
        precision = None if self.precision == "auto" else self.precision
        given = {"pooling": self.pooling, "padding": self.padding, "precision": precision}
        options = {name: value for name, value in given.items() if value is not None}
        backbone, params = load_backbone(self.backbone, self.weights, offline=self.offline or None, **options)
        check_preset_layers(settings, self.preset, backbone, self.compared)
        return backbone, params


def _settings(name: str, statistic: str | None) -> Preset:
    return preset(name) if statistic is None else with_style_statistic(preset(name), statistic)


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING
