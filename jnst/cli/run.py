"""What `jnst stylize`, `jnst synthesize` and `jnst reconstruct` have in common."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import jax
import tyro

from jnst.cli.arguments import Counts, Names, Number, Numbers, Text
from jnst.cli.inputs import remark
from jnst.cli.progress import interruptible, log, progress
from jnst.errors import JnstError, NumericsError
from jnst.image import Pyramid
from jnst.io import check_output, save_image
from jnst.losses import STYLE_LOSSES
from jnst.optimize import Report
from jnst.optimizers import OPTIMIZERS
from jnst.pictures import INITS
from jnst.presets import PRESETS, Preset, preset, with_style_statistic
from jnst.stylize import Solution
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
class Run:
    """Flags and course of a command that makes a picture by optimisation."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
    """The picture to write: .png, .jpg, .webp or .tif."""

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
    init: str = "content"
    """Where to start: content, style, noise, or a picture file."""
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

    optimizer: Literal["adam", "lbfgs", "lbfgs-zoom", "rmsprop", "sgd"] = "lbfgs"
    """L-BFGS makes more of a step, Adam needs less memory and bears losses that draw at random."""
    learning_rate: Number = None
    """Step length, in units of the pictures that the preset's system optimises (0-255 for most)."""
    pyramid: bool = False
    """Begin at a small size and enlarge it step by step: by the square root of 2, or as the preset says."""
    min_size: int = 128
    """The smallest longer side of the pyramid."""
    clamp: bool = False
    """Clip the picture to its range after every step."""
    average: float = 0.0
    """Decay of an average of iterates, such as 0.99; 0 for none."""
    pooling: Text = None
    """The network's pooling: max, avg or l2; auto: the preset's, else as trained."""
    padding: Text = None
    """How the network continues a picture past its border: zero, reflect or replicate; auto: as trained."""

    bit_depth: Literal[8, 16] = 8
    """16 for PNG and TIFF only."""
    quality: int = 95
    """For JPEG and WebP, 1 to 100."""
    log: Annotated[Path | None, tyro.conf.arg(metavar="FILE.jsonl")] = None
    """Write one JSON line a step: every weighted term, and the seconds."""
    force: bool = False
    """Allow the output to be written over an input."""

    @classmethod
    def from_preset(cls, name: str, statistic: str | None = None) -> Self:
        """The defaults under a preset, and under another style statistic than its own."""
        settings = _settings(name, statistic)
        optimizer = next(key for key, make in OPTIMIZERS.items() if _same_kind(make(), settings.optimizer))
        missing = {field.name: tyro.MISSING for field in dataclasses.fields(cls) if _required(field)}
        return cls(
            **missing,
            preset=name,
            style_statistic=statistic,
            steps=settings.num_steps,
            optimizer=optimizer,  # pyright: ignore[reportArgumentType]
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
        changes["optimizer"] = self._optimizer(base)
        if changes["optimizer"] != base.optimizer:
            changes["last_learning_rate"] = None
        pyramid = dataclasses.replace(base.pyramid or Pyramid(), min_size=self.min_size)
        changes["pyramid"] = pyramid if self.pyramid else None
        if self.init in INITS:
            changes["init"] = self.init
        if self.average:
            changes["keep_best"] = False
        if not 0 <= self.seed < 2**32:
            raise JnstError(f"--seed {self.seed}: expected a number from 0 to {2**32 - 1}")
        return preset(base, **changes)

    def _optimizer(self, base: Preset) -> Any:
        wanted = OPTIMIZERS[self.optimizer]()
        stated = (base.optimizer, *base.alternatives)
        chosen = next((optimizer for optimizer in stated if _same_kind(optimizer, wanted)), wanted)
        return chosen if self.learning_rate is None else dataclasses.replace(chosen, learning_rate=self.learning_rate)

    def inputs(self) -> tuple[Path, ...]:
        """The files that are read."""
        return () if self.init in INITS else (Path(self.init),)

    def load(self, settings: Preset) -> dict[str, Any]:
        """The pictures, by the names of the arguments of `solve`'s function."""
        raise NotImplementedError

    def solve(self, **arguments: Any) -> Solution:
        """Make the picture."""
        raise NotImplementedError

    def run(self) -> int:
        """Read the pictures, optimise, write the result."""
        settings = self.settings()
        self._check_files()
        pictures = self.load(settings)
        given = {"pooling": self.pooling, "padding": self.padding}
        options = {name: value for name, value in given.items() if value is not None}
        backbone, params = load_backbone(self.backbone, self.weights, **options)
        if "padding" in options:
            settings = preset(settings, padding=options["padding"])
        if pictures.get("size") is None:
            settings = preset(settings, style_scale=1.0)
        remark(settings, self.preset, backbone)
        with interruptible() as interruption, progress() as show, log(self.log) as write:

            def listen(report: Report) -> bool:
                show(report)
                write(report)
                return bool(interruption.signal_number)

            common = {"params": params, "backbone": backbone, "preset": settings, "callback": listen}
            solution = self._solve(common | pictures)
        self._save(solution)
        return 128 + interruption.signal_number if interruption.signal_number else 0

    def _check_files(self) -> None:
        inputs = self.inputs()
        check_output(self.output, inputs=inputs, force=self.force, bit_depth=self.bit_depth, quality=self.quality)
        others = (*inputs, self.output, *filter(None, [self.weights]))
        if self.log and self.log.resolve() in {Path(path).resolve() for path in others}:
            raise JnstError(f"--log {self.log} is also a file that is read or written otherwise: name another")

    def _solve(self, arguments: dict[str, Any]) -> Solution:
        try:
            return self.solve(key=jax.random.key(self.seed), **arguments)
        except NumericsError as error:
            if isinstance(error.result, Solution) and len(error.result.losses) > 1:
                with contextlib.suppress(JnstError):
                    self._save(error.result)
            raise

    def _save(self, solution: Solution) -> None:
        save_image(self.output, solution.image, bit_depth=self.bit_depth, quality=self.quality)
        height, width = solution.image.shape[:2]
        loss = f", loss {solution.losses[0]:.5g} to {solution.losses[-1]:.5g}" if len(solution.losses) else ""
        print(f"{self.output}: {width}x{height}, {len(solution.losses)} steps{loss}")


def _settings(name: str, statistic: str | None) -> Preset:
    return preset(name) if statistic is None else with_style_statistic(preset(name), statistic)


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING


def _same_kind(left: Any, right: Any) -> bool:
    return type(left) is type(right) and getattr(left, "zoom", None) == getattr(right, "zoom", None)
