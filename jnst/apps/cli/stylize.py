"""`jnst stylize`, `jnst synthesize`, `jnst reconstruct`."""

import dataclasses
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from jnst.apps.cli.arguments import Numbers, Text
from jnst.apps.cli.inputs import load_images, load_mask
from jnst.apps.cli.run import Run
from jnst.apps.io import load_image
from jnst.errors import ArgumentError
from jnst.images import fit_shape, size_of
from jnst.images.keep_colour import KEEP_COLOUR
from jnst.presets import Preset, preset
from jnst.transfer.inputs import INITS
from jnst.transfer.stylize import Solution, reconstruct, stylize, synthesize

Styles = Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="STYLE [STYLE ...]")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stylize(Run):
    """Make an image with the content of one image in the style of another.

    A preset sets all defaults; `jnst stylize --preset NAME --help` shows its values, any flag goes before them.
    """

    content: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CONTENT")]
    """The image whose content is kept."""
    style: Styles
    """The image whose style is taken; of several, a mixture, or with --mask each in its region."""
    style_weights: Numbers = None
    """How much each style counts, in proportion."""
    mask: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE [FILE ...]")] = ()
    """For each style a grey image of the content's proportions: white where the style belongs."""
    style_mask: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE [FILE ...]")] = ()
    """For each style a grey image of its proportions: white where it counts."""
    keep_color: Annotated[Text, tyro.conf.arg(metavar=f"{{auto,{','.join(KEEP_COLOUR)}}}")] = None
    """Keep the content's colours; auto: as the preset does (most do not)."""

    @classmethod
    def own_defaults(cls, settings: Preset) -> dict[str, Any]:
        """See `Run`."""
        return {"init": settings.init, "keep_color": settings.keep_color}

    def settings(self) -> Preset:
        """See `Run`."""
        return preset(super().settings(), keep_color=self.keep_color)

    def inputs(self) -> tuple[Path, ...]:
        """See `Run`."""
        return (self.content, *self.style, *self.mask, *self.style_mask, *super().inputs())

    def load(self, settings: Preset) -> dict[str, Any]:
        """The images and masks, by the names of `jnst.transfer.stylize`'s arguments."""
        for flag, masks in (("--mask", self.mask), ("--style-mask", self.style_mask)):
            if masks and len(masks) != len(self.style):
                raise ArgumentError(f"{flag}: {len(masks)} files for {len(self.style)} styles, give one for each")
        content, styles, size = load_images(self.content, self.style, settings)
        style_masks = [load_mask(path, style) for path, style in zip(self.style_mask, styles, strict=False)]
        return {
            "content": content,
            "style": styles,
            "size": size,
            "style_weights": self.style_weights,
            "masks": [load_mask(path, content) for path in self.mask] or None,
            "style_masks": style_masks or None,
            "init": None if self.init in INITS else load_image(Path(self.init)),
        }

    def solve(self, **arguments: Any) -> Solution:
        """See `Run`."""
        return stylize(**arguments)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Synthesize(Run):
    """Make a texture: an image with a style and no content."""

    compared: ClassVar[tuple[str, ...]] = ("style",)

    style: Styles
    """The image whose style is taken; of several, a mixture."""
    shape: Text = None
    """WIDTHxHEIGHT in pixels; auto: --size, in the style's proportions."""
    style_weights: Numbers = None
    """How much each style counts, in proportion."""
    init: str = "noise"
    """Where to start: noise, style, or an image file."""

    def inputs(self) -> tuple[Path, ...]:
        """See `Run`."""
        return (*self.style, *super().inputs())

    def load(self, settings: Preset) -> dict[str, Any]:
        """The images, by the names of `jnst.synthesize`'s arguments."""
        side = round(settings.size * settings.style_scale)
        styles = [load_image(path, size=side, resample=settings.resample) for path in self.style]
        shape = _shape(self.shape) if self.shape else fit_shape(size_of(styles[0]), settings.size)
        init = self.init if self.init in INITS else load_image(Path(self.init))
        return {"style": styles, "shape": shape, "style_weights": self.style_weights, "init": init}

    def solve(self, **arguments: Any) -> Solution:
        """See `Run`."""
        return synthesize(**arguments)


def _shape(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    if not match or not (int(match[1]) and int(match[2])):
        raise ArgumentError(f"--shape {text}: expected WIDTHxHEIGHT in pixels, each at least 1, for example 640x480")
    return int(match[2]), int(match[1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstruct(Run):
    """Show what layers keep of an image: another one with the same features, from noise."""

    compared: ClassVar[tuple[str, ...]] = ("content",)

    content: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CONTENT")]
    """The image whose features are kept."""
    init: str = "noise"
    """Where to start: noise, or an image file."""

    def inputs(self) -> tuple[Path, ...]:
        """See `Run`."""
        return (self.content, *super().inputs())

    def load(self, settings: Preset) -> dict[str, Any]:
        """The images, by the names of `jnst.reconstruct`'s arguments."""
        content, _, size = load_images(self.content, (), settings)
        init = self.init if self.init in INITS else load_image(Path(self.init))
        return {"content": content, "size": size, "init": init}

    def solve(self, **arguments: Any) -> Solution:
        """See `Run`."""
        return reconstruct(**arguments)
