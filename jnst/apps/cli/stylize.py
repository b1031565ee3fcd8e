"""`jnst stylize`, `jnst synthesize`, `jnst reconstruct`: make one image by optimisation."""

import abc
import contextlib
import dataclasses
import functools
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jnst
from jnst.apps.catalogue.digest import NUMERICS, file_hash, network_digest, settings_json
from jnst.apps.cli.arguments import Numbers, Text, optional
from jnst.apps.cli.checkpointing import CheckpointFlags, Keeper
from jnst.apps.cli.flags import SettingsFlags, remark
from jnst.apps.cli.interruption import Interruption, interruptible
from jnst.apps.cli.outputs import OutputFlags, ReportFlag, WatchingFlags, check_distinct, preview_facts, stopped_line
from jnst.apps.cli.progress import describe, open_log, progress, remarks
from jnst.apps.io import image_size, is_grey, load_alpha, load_image, save_image
from jnst.apps.io.sizes import as_loaded, load_options, load_with
from jnst.backbones import Backbone
from jnst.errors import ArgumentError, ImageError, JnstError, NumericsError, did_you_mean
from jnst.images import fit_shape, nearest_multiple, resize_mask, rgb_groups, size_of
from jnst.images.keep_colour import KEEP_COLOUR
from jnst.losses.tiles import check_tile
from jnst.presets import Preset, preset
from jnst.solve import Solution
from jnst.transfer import Compiling, Report
from jnst.transfer.inputs import INITS
from jnst.types import Guide, Image, Params, Wrap
from jnst.weights.files import shown

Styles = Annotated[
    tyro.conf.Positional[tuple[Path, ...]],
    tyro.conf.arg(metavar="STYLE [STYLE ...]", help_behavior_hint="(required)"),
]
Masks = Annotated[tuple[Path, ...], optional("FILE [FILE ...]")]

IMAGE_FLAGS = ("content", "style", "mask", "style_mask")
BLACK = (0.0, 0.0, 0.0)
PROPORTIONS = 0.01
"""By how much the proportions of a mask may differ from those of its image."""
STRIDE = 16
"""The stride of the deepest usual layer, ``relu5_1``, in pixels."""
OTHER_FLAGS = ("seed", "style_weights", "shape", "maps")
"""Flags that determine the result besides the settings, the network and the images."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(ReportFlag, CheckpointFlags, WatchingFlags, SettingsFlags, OutputFlags, abc.ABC):
    """What the commands that make one image by optimisation have in common."""

    init: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")] = "content"
    """Initial image: content, style, noise, or an image file."""
    tile: Annotated[Text, tyro.conf.arg(metavar="SIDE")] = None
    """Compute the image in square tiles of this side in pixels (at least 64, rounded up to a multiple of 32): the
    result is that of the whole image. auto: in tiles only where the whole image does not fit into memory."""

    def settings(self) -> Preset:
        """The preset, overridden by the flags."""
        settings = super().settings()
        return preset(settings, init=self.init) if self.init in INITS else settings

    def inputs(self) -> tuple[Path, ...]:
        """The image files that are read."""
        return () if self.init in INITS else (Path(self.init),)

    def load_init(self, settings: Preset) -> Image:
        """Load the initial image.

        Raises:
            ImageError: It is neither a known name nor a file that can be read.
        """
        path = Path(self.init)
        if not path.suffix and not path.exists():
            near = did_you_mean(self.init, INITS)
            raise ImageError(
                f"--init {self.init}: expected {', '.join(INITS)}, or an image file{f' ({near})' if near else ''}"
            )
        return load_image(path, background=settings.loading.background)

    @abc.abstractmethod
    def load(self, settings: Preset) -> dict[str, Any]:
        """Load the images: arguments of `solve`."""

    @abc.abstractmethod
    def solve(self, **arguments: Any) -> Solution:
        """Make the image."""

    def run(self) -> int:
        """Read the images, make the result, and write it."""
        settings = self.settings()
        self._check_files()
        images = self.load(settings)
        _remark_on_seam(images, settings.wrap)
        backbone, params = self.network(settings)
        remark(settings, self.preset, backbone)
        keeper = self.keeper(lambda: self._about(settings, backbone, params), settings.schedule)
        with interruptible(keeper.last_resort) as interruption:
            solution = self._solve(images, settings, backbone, params, keeper, interruption)
        if interruption.signal_number and self.checkpoint is not None:
            print(stopped_line(self.checkpoint), file=sys.stderr)
        seconds = keeper.records.seconds
        about = {
            "seed": self.seed,
            "seconds": float(seconds[-1]) if len(seconds) else 0.0,
            "of which compilation and targets": round(keeper.compile_seconds, 2),
        }
        whole = dataclasses.replace(solution, image=self.shown(solution.image))
        self.save_run_report(self.output, whole, self.shown_inputs(images), settings, backbone, about)
        return 128 + interruption.signal_number if interruption.signal_number else 0

    def _solve(
        self,
        images: dict[str, Any],
        settings: Preset,
        backbone: Backbone,
        params: Params,
        keeper: Keeper,
        interruption: Interruption,
    ) -> Solution:
        """Make the image and write it, with its film, checkpoint and log."""
        facts = preview_facts(settings, self.preset, backbone, self.inputs())
        with self.watching(facts) as watchers, progress() as show, remarks(), open_log(self.log) as log:
            records = keeper.records
            log(1, records.losses, records.parts, records.seconds)

            def listen(report: Report) -> bool:
                report = keeper.listen(report)
                make_image = report.make_image
                report = dataclasses.replace(report, make_image=lambda: self.shown(make_image()))
                show.report(report)
                log(report.first, report.losses, report.parts, report.seconds)
                for watch in watchers.steps:
                    watch(report)
                return bool(interruption.signal_number)

            def wait(compiling: Compiling) -> None:
                show.compiling(compiling)
                for announce in watchers.waits:
                    announce(describe(compiling))

            try:
                solution = self.solve(
                    **images,
                    params=params,
                    backbone=backbone,
                    key=jax.random.key(self.seed),
                    tile=_parse_tile(self.tile),
                    chunk=self.chunk(settings),
                    state=keeper.state,
                    callback=listen,
                    on_compile=wait,
                )
            except NumericsError as error:
                whole = keeper.whole(error.result)
                with contextlib.suppress(JnstError):
                    keeper.end(lambda: self._save(whole) if len(whole.losses) > 1 else None, None)
                raise NumericsError(whole.error()) from error
            whole = keeper.whole(solution)
            keeper.end(lambda: self._save(whole), solution)
            for show_result in watchers.results:
                show_result(self.shown(solution.image))
        return whole

    def _check_files(self) -> None:
        _parse_tile(self.tile)
        inputs = [Path(path) for path in self.inputs()]
        weights = map(Path, self.weights)
        log, film = ([path] if path else [] for path in (self.log, self.animate))
        self.check_output(inputs, self.size)
        used = [*inputs, *weights, *self.outputs()]
        if self.log:
            check_distinct("--log", self.log, used)
        self.check_watching([*inputs, *weights, *log])
        self.check_report([*used, *log])
        self.check_checkpoint([*used, *log, *film, *(self.report or ())])

    def _about(self, settings: Preset, backbone: Backbone, params: Params) -> dict[str, Any]:
        """What identifies the run, and the versions. Steps are not included, since more can be asked for later."""
        run = {"command": type(self).__name__.lower(), "numerics": NUMERICS}
        run |= settings_json(preset(settings, num_steps=0))
        run |= {name: getattr(self, name) for name in OTHER_FLAGS if hasattr(self, name)}
        run |= {"network": f"{backbone.name}, {backbone.training} weights", "params": network_digest(backbone, params)}
        for name in IMAGE_FLAGS:
            files = getattr(self, name, ())
            run[name] = file_hash(files) if isinstance(files, Path) else [file_hash(path) for path in files]
        if self.init not in INITS:
            run["init"] = file_hash(Path(self.init))
        return {"run": run, "jnst": jnst.__version__, "jax": jax.__version__}

    def alpha(self, shape: tuple[int, int]) -> np.ndarray | None:
        """How opaque the result is, ``(h, w)`` in [0, 1]; None: everywhere."""
        return None

    def shown(self, image: Image) -> Image:
        """What reports, films and previews show of a result."""
        return image

    def shown_inputs(self, images: dict[str, Any]) -> dict[str, Any]:
        """The arguments of `solve`, with images that a report can show."""
        return images

    def save_images(self, image: Image) -> None:
        """Write the result."""
        height, width = image.shape[:2]
        self.save_image(image, self.alpha((height, width)))

    def _save(self, solution: Solution) -> None:
        height, width = solution.image.shape[:2]
        self.save_images(solution.image)
        losses = solution.losses
        loss = f", loss {losses[0]:.5g} to {losses[-1]:.5g}" if len(losses) else ""
        print(f"{', '.join(map(str, self.outputs()))}: {width}x{height}, {len(losses)} steps{loss}")
        if warning := solution.warning():
            print(f"jnst: {warning}", file=sys.stderr)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stylize(Run):
    """Transfer the style of one image to the content of another.

    Flags override the preset. `jnst stylize --preset NAME --help` shows its values as defaults.
    """

    content: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CONTENT")]
    """Content image."""
    style: Styles
    """Style image. Several are mixed, or with --mask each has its region."""
    style_weights: Numbers = None
    """How much each style counts, in proportion. auto: all the same."""
    mask: Masks = ()
    """Images in the proportions of the content, one for each style: white where the style is applied, black or
    transparent where it is not."""
    style_mask: Masks = ()
    """Images in the proportions of the styles, one for each: white where the style is taken from, black or transparent
    where it is not."""
    keep_color: Annotated[Text, tyro.conf.arg(metavar=f"{{auto,{','.join(KEEP_COLOUR)}}}")] = None
    """Keep the colours of the content in this way. auto: do not keep them."""

    @classmethod
    def own_defaults(cls, settings: Preset) -> dict[str, Any]:
        """See `SettingsFlags`."""
        return {"init": settings.schedule.init, "keep_color": settings.keep_color}

    def settings(self) -> Preset:
        """See `Run`."""
        return preset(super().settings(), keep_color=self.keep_color)

    def inputs(self) -> tuple[Path, ...]:
        """See `Run`."""
        return (self.content, *self.style, *self.mask, *self.style_mask, *super().inputs())

    def alpha(self, shape: tuple[int, int]) -> np.ndarray | None:
        """See `Run`: as opaque as the content, unless there is a background."""
        return load_alpha(self.content, shape) if self.background is None else None

    def load(self, settings: Preset) -> dict[str, Any]:
        """Load the images and masks: arguments of `jnst.stylize`."""
        _check_styles(self.style)
        for flag, masks in (("--mask", self.mask), ("--style-mask", self.style_mask)):
            if masks and len(masks) != len(self.style):
                raise ArgumentError(f"{flag}: {len(masks)} files for {len(self.style)} styles, expected one for each")
        content = load_with(self.content, load_options(self.content, settings))
        scale = settings.schedule.style_scale
        styles = [load_with(path, load_options(path, settings, scale)) for path in self.style]
        settings, size = as_loaded(settings)
        style_masks = [
            _load_mask(path, style, of) for path, style, of in zip(self.style_mask, styles, self.style, strict=False)
        ]
        return {
            "preset": settings,
            "content": content,
            "style": styles,
            "size": size,
            "style_weights": self.style_weights,
            "masks": [_load_mask(path, content, self.content) for path in self.mask] or None,
            "style_masks": style_masks or None,
            "init": None if self.init in INITS else self.load_init(settings),
        }

    def solve(self, **arguments: Any) -> Solution:
        """See `Run`."""
        return jnst.stylize(**arguments)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Synthesize(Run):
    """Synthesise a texture: an image with a style and no content."""

    compared: ClassVar[tuple[str, ...]] = ("style",)

    style: Styles
    """Style image. Several are mixed, or with --maps they are maps of one material."""
    maps: bool = False
    """Synthesise several maps of one material, such as its albedo, normals and roughness, that stay aligned. Each map
    has a file of its own, named after the output and the map: out_albedo.png."""
    shape: Annotated[Text, tyro.conf.arg(metavar="WIDTHxHEIGHT")] = None
    """Size of the texture in pixels. auto: --size, in the proportions of the style."""
    style_weights: Numbers = None
    """How much each style counts, in proportion. auto: all the same."""
    init: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")] = "noise"
    """Initial image: noise, style, or an image file."""

    def inputs(self) -> tuple[Path, ...]:
        """See `Run`."""
        return (*self.style, *super().inputs())

    def outputs(self) -> tuple[Path, ...]:
        """See `OutputFlags`."""
        if not self.maps:
            return super().outputs()
        return tuple(self.output.with_stem(f"{self.output.stem}_{name}") for name in map_names(self.style))

    def shown(self, image: Image) -> Image:
        """See `Run`: maps side by side."""
        return jnp.concatenate(list(rgb_groups(image)), axis=1) if self.maps else image

    def shown_inputs(self, images: dict[str, Any]) -> dict[str, Any]:
        """See `Run`."""
        if not self.maps:
            return images
        return images | {"style": [image for style in images["style"] for image in rgb_groups(style)]}

    @functools.cached_property
    def _are_grey(self) -> tuple[bool, ...]:
        """Which maps are grey."""
        return tuple(map(is_grey, self.style))

    def save_images(self, image: Image) -> None:
        """See `Run`: a file for each map. Those that were grey stay grey."""
        if not self.maps:
            return super().save_images(image)
        for path, grey, one in zip(self.outputs(), self._are_grey, rgb_groups(image), strict=True):
            values = jnp.mean(one, -1, keepdims=True).repeat(3, -1) if grey else one
            save_image(path, values, bit_depth=self.bit_depth, quality=self.quality, grey=grey)
        return None

    def load(self, settings: Preset) -> dict[str, Any]:
        """Load the images: arguments of `jnst.synthesize`."""
        _check_styles(self.style)
        size, schedule = settings.loading.size, settings.schedule
        side = round(size * schedule.style_scale)
        background = settings.loading.background
        styles = [load_image(path, side, resample=schedule.resample, background=background) for path in self.style]
        if self.maps:
            _check_maps(self.style, self.style_weights, self.init)
            assert self._are_grey  # known before the run, because files may be gone after it
            styles = [jnp.concatenate(styles, axis=-1)]
        shape = _parse_shape(self.shape) if self.shape else fit_shape(size_of(styles[0]), size)
        shape = shape if self.shape else nearest_multiple(shape, STRIDE, settings.wrap)
        init = self.init if self.init in INITS else self.load_init(settings)
        loaded = preset(settings, style_scale=1.0)  # styles have their scale already
        return {"preset": loaded, "style": styles, "shape": shape, "style_weights": self.style_weights, "init": init}

    def solve(self, **arguments: Any) -> Solution:
        """See `Run`."""
        return jnst.synthesize(**arguments)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstruct(Run):
    """Show what layers keep of an image: find another image with the same features."""

    compared: ClassVar[tuple[str, ...]] = ("content",)

    content: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CONTENT")]
    """Image whose features are matched."""
    init: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")] = "noise"
    """Initial image: noise, or an image file."""

    def inputs(self) -> tuple[Path, ...]:
        """See `Run`."""
        return (self.content, *super().inputs())

    def alpha(self, shape: tuple[int, int]) -> np.ndarray | None:
        """See `Run`: as opaque as the content, unless there is a background."""
        return load_alpha(self.content, shape) if self.background is None else None

    def load(self, settings: Preset) -> dict[str, Any]:
        """Load the images: arguments of `jnst.reconstruct`."""
        content = load_with(self.content, load_options(self.content, settings))
        init = self.init if self.init in INITS else self.load_init(settings)
        settings, size = as_loaded(settings)
        return {"preset": settings, "content": content, "size": size, "init": init}

    def solve(self, **arguments: Any) -> Solution:
        """See `Run`."""
        return jnst.reconstruct(**arguments)


def map_names(files: Sequence[Path]) -> list[str]:
    """The names of a material's maps: those of their files without what all of them begin with.

    >>> map_names([Path("bricks_albedo.png"), Path("bricks_normal.png")])
    ['albedo', 'normal']

    Raises:
        ArgumentError: Two maps of one name.
    """
    words = [re.findall(r"[^-_. ]+[-_. ]*", path.stem) for path in files]
    while len(words) > 1 and len({tuple(each[:1]) for each in words}) == 1 and all(words):
        words = [each[1:] for each in words]
    names = ["".join(each) for each in words]
    if len(set(names)) < len(names) or not all(names):
        raise ArgumentError(f"--maps: {', '.join(map(shown, files))} need different names, after which files are named")
    return names


def _check_maps(files: Sequence[Path], weights: Sequence[float] | None, init: str) -> None:
    if len(files) < 2:
        raise ArgumentError(f"--maps: only {shown(files[0])} is given, expected several maps of one material")
    if weights is not None:
        raise ArgumentError("--style-weights with --maps: maps are not mixed, leave the weights out")
    if init not in ("noise", "style"):
        raise ArgumentError(f"--init {init} with --maps: expected noise or style")
    for file in files:
        if load_alpha(file, image_size(file)) is not None:
            print(f"jnst: {shown(file)}: maps have no alpha channel: give it as a map of its own", file=sys.stderr)
    first = image_size(files[0])
    for file in files[1:]:
        if (own := image_size(file)) != first:
            raise ImageError(
                f"{shown(file)} is {own[1]}x{own[0]} pixels, but {shown(files[0])} {first[1]}x{first[0]}: maps of one "
                "material have one size, resize them to it first"
            )


def _remark_on_seam(images: dict[str, Any], wrap: Wrap) -> None:
    """Say so if a result of this size does not repeat exactly."""
    shape = images.get("shape") or size_of(images["content"])
    shape = fit_shape(shape, images["size"]) if images.get("size") else shape
    exact = nearest_multiple(shape, STRIDE, wrap)
    if shape != exact:
        print(
            f"jnst: {shape[1]}x{shape[0]} pixels repeat with a faint seam: multiples of {STRIDE}, such as "
            f"{exact[1]}x{exact[0]}, have none",
            file=sys.stderr,
        )


def _parse_tile(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal():
        raise ArgumentError(f"--tile {text}: expected the side of a tile in pixels, for example 512, or auto")
    return check_tile(int(text))


def _check_styles(styles: tuple[Path, ...]) -> None:
    if not styles:
        raise ArgumentError("STYLE is missing: name at least one image, in front of the flags")


def _load_mask(path: Path, image: Image, of: Path) -> Guide:
    """Load a mask: the brightness of an image file, at the size of the image that it belongs to.

    Raises:
        ImageError: The file cannot be read, has other proportions than the file ``of``, or is black or transparent.
    """
    mask, own = load_image(path, background=BLACK).mean(-1), image_size(of)
    skew = abs(mask.shape[0] * own[1] - mask.shape[1] * own[0])
    # A pixel of rounding in one of the four sides is fine.
    if skew > max(*mask.shape, *own, PROPORTIONS * mask.shape[0] * own[1]):
        raise ImageError(
            f"{shown(path)} is {mask.shape[1]}x{mask.shape[0]} pixels, but {shown(of)}, to which it belongs, "
            f"{own[1]}x{own[0]}: expected the same proportions; crop or stretch the mask"
        )
    if not bool(mask.max() > 0):
        raise ImageError(f"{shown(path)} is 0 everywhere, black or transparent: draw the region in white")
    return resize_mask(mask, size_of(image))


def _parse_shape(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    if not match or not (int(match[1]) and int(match[2])):
        raise ArgumentError(f"--shape {text}: expected WIDTHxHEIGHT in pixels, each at least 1, for example 640x480")
    return int(match[2]), int(match[1])
