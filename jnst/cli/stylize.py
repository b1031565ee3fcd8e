"""`jnst stylize`."""

import contextlib
import dataclasses
import math
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro

from jnst.backbones import Backbone
from jnst.cli.arguments import Counts, Names, Number, Numbers, Text
from jnst.cli.progress import interruptible, log, progress
from jnst.errors import JnstError, NumericsError
from jnst.image import Pyramid
from jnst.io import check_output, load_image, save_image
from jnst.optimize import Report
from jnst.optimizers import OPTIMIZERS
from jnst.presets import PRESETS, Preset, preset
from jnst.stylize import INITS, Solution, stylize
from jnst.types import Image, Params
from jnst.weights.load import load_backbone

SAME_NAMES = (
    "content_layers",
    "style_layers",
    "content_weight",
    "style_weight",
    "content_layer_weights",
    "style_layer_weights",
    "tv_weight",
    "size",
    "clamp",
    "average",
    "pooling",
)
"""The flags that are fields of `Preset` as they stand."""


@dataclasses.dataclass(frozen=True)
class Stylize:
    """Make a picture with the content of one picture in the style of another.

    A preset sets all defaults; `jnst stylize --preset NAME --help` shows its values, any flag goes before them.
    """

    content: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CONTENT")]
    """The picture whose content is kept."""
    style: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="STYLE")]
    """The picture whose style is taken."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
    """The picture to write: .png, .jpg, .webp or .tif."""

    backbone: Text = None
    """The network (see `jnst backbones`); auto: what the weights file holds."""
    weights: Text = None
    """Pretrained weights: model.json (TensorFlow.js), .h5, .pth, .safetensors or .npz; auto: the embedded network."""
    preset: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(PRESETS)}}}")] = "jnst"
    """A published system's settings (see `jnst presets`)."""

    size: int = 512
    """The longer side of content and style in pixels (gatys2017: the side of a square of the same area)."""
    steps: Counts = (200,)
    """Steps; with a pyramid, one number for each size, the last for all further ones."""
    init: str = "content"
    """Where to start: content, style, noise, or a picture file."""
    seed: int = 0
    """For noise; 0 to 2^32 - 1."""

    content_layers: Names = None
    """Layers on which content is compared: convB_L before a ReLU, reluB_L after it."""
    style_layers: Names = None
    """Layers on which style is compared."""
    content_weight: float = 1.0
    """More keeps more of the content."""
    style_weight: float = 1.0
    """More takes more of the style."""
    content_layer_weights: Numbers = None
    """A further factor for each content layer."""
    style_layer_weights: Numbers = None
    """A further factor for each style layer."""
    tv_weight: float = 0.0
    """Weight of total variation: more makes smoother."""

    optimizer: Literal["adam", "lbfgs", "lbfgs-zoom"] = "lbfgs"
    """L-BFGS makes more of a step, Adam needs less memory."""
    learning_rate: Number = None
    """Step length, in units of the pictures that the preset's system optimises (0-255 for most)."""
    pyramid: bool = False
    """Begin at a small size and enlarge it step by step: by the square root of 2, or as the preset says."""
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
    def from_preset(cls, name: str) -> "Stylize":
        """The defaults under a preset."""
        settings = preset(name)
        optimizer = next(key for key, make in OPTIMIZERS.items() if _same_kind(make(), settings.optimizer))
        return cls(
            content=tyro.MISSING,
            style=tyro.MISSING,
            output=tyro.MISSING,
            preset=name,
            steps=settings.num_steps,
            init=settings.init,
            optimizer=optimizer,  # pyright: ignore[reportArgumentType]
            pyramid=settings.pyramid is not None,
            **{field: getattr(settings, field) for field in SAME_NAMES},
        )

    def settings(self) -> Preset:
        """The preset with the flags put in."""
        base = preset(self.preset)
        changes: dict[str, Any] = {field: getattr(self, field) for field in SAME_NAMES}
        changes["num_steps"] = self.steps
        changes["optimizer"] = self._optimizer(base)
        changes["pyramid"] = (base.pyramid or Pyramid()) if self.pyramid else None
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

    def run(self) -> int:
        """Read the pictures, stylise, write the result."""
        settings = self.settings()
        start = () if self.init in INITS else (Path(self.init),)
        check_output(
            self.output,
            inputs=(self.content, self.style, *start),
            force=self.force,
            bit_depth=self.bit_depth,
            quality=self.quality,
        )
        others = (self.content, self.style, *start, self.output, *filter(None, [self.weights]))
        if self.log and self.log.resolve() in {Path(path).resolve() for path in others}:
            raise JnstError(f"--log {self.log} is also a file that is read or written otherwise: name another")
        content, style = (_load(path, settings) for path in (self.content, self.style))
        init = load_image(start[0]) if start else None
        given = {"pooling": self.pooling, "padding": self.padding}
        options = {name: value for name, value in given.items() if value is not None}
        backbone, params = load_backbone(self.backbone, self.weights, **options)
        _remark(settings, self.preset, backbone)
        with interruptible() as interruption, progress() as show, log(self.log) as write:

            def listen(report: Report) -> bool:
                show(report)
                write(report)
                return bool(interruption.signal_number)

            solution = self._solve((content, style, init), params, backbone, settings, listen)
        self._save(solution)
        return 128 + interruption.signal_number if interruption.signal_number else 0

    def _solve(
        self,
        pictures: tuple[Image, Image, Image | None],
        params: Params,
        backbone: Backbone,
        settings: Preset,
        listen: Any,
    ) -> Solution:
        content, style, init = pictures
        try:
            return stylize(
                content,
                style,
                params,
                backbone=backbone,
                preset=settings,
                init=init,
                key=jax.random.key(self.seed),
                callback=listen,
            )
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


def _same_kind(left: Any, right: Any) -> bool:
    return type(left) is type(right) and getattr(left, "zoom", None) == getattr(right, "zoom", None)


def _load(path: Path, settings: Preset) -> Image:
    side = settings.size
    if settings.size_is_area:
        height, width = load_image(path).shape[:2]
        side = round(settings.size * math.sqrt(max(height, width) / min(height, width)))
    return load_image(path, size=side, resample=settings.resample, rounding=settings.rounding)


def _remark(settings: Preset, name: str, backbone: Backbone) -> None:
    """Say what may surprise: no accelerator, or other weights than a published preset's."""
    if jax.default_backend() == "cpu":
        print("jnst: no GPU or TPU found, running on the CPU", file=sys.stderr)
    if settings.weights and backbone.training != settings.weights:
        print(
            f"jnst: preset {name} states its numbers for {settings.weights} weights, these are {backbone.training}: "
            "loss values and the balance of content and style will differ",
            file=sys.stderr,
        )
