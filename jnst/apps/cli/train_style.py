"""`jnst train style`: train a network that repaints any image in one pass."""

import dataclasses
import io
import itertools
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import rich.progress
import tyro

import jnst
from jnst.apps.cli.arguments import Counts, Names, Numbers, Text, optional
from jnst.apps.cli.interruption import TRAINING_GRACE, interruptible
from jnst.apps.cli.outputs import check_distinct, check_outputs, stopped_line
from jnst.apps.cli.progress import training_progress
from jnst.apps.cli.startup import choose_device, no_accelerator
from jnst.apps.io import load_image
from jnst.apps.io.load import SUFFIXES
from jnst.apps.pixels import to_levels
from jnst.apps.report import Heading, Tile, contact_sheet
from jnst.apps.training.augmentation import centre_crop
from jnst.apps.training.data import OVERSAMPLING, Photos, load_photos, read_pixels
from jnst.apps.training.style import PARTS, Recipe, Record, Trained, check_training, train_style_network
from jnst.backbones import Backbone
from jnst.errors import ArgumentError, ImageError
from jnst.solve.compilation import Jit
from jnst.transfer.network import SMALLEST_SIDE, StyleNetwork
from jnst.transfer.network_files import save_style_network
from jnst.types import Image, Params
from jnst.weights.files import shown, write_atomically
from jnst.weights.load import load_backbone
from jnst.weights.trainings import PREPROCESSINGS

SHEET_IMAGES = 3
"""How many photographs a sheet shows unless some are named."""
Files = Annotated[tuple[tuple[Path, ...], ...], tyro.conf.UseAppendAction]
"""Several files after a flag, which may also be repeated."""
COUNT = rich.progress.TextColumn("{task.completed:>5.0f}/{task.total:.0f}")
SHEET_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Style:
    """Train a network that repaints any image in one pass, in one style or in several and their mixtures.

    `jnst apply` uses it. Any folder of photographs will do. A few thousand are best; with fewer, crops repeat.
    """

    style: Annotated[Files, tyro.conf.arg(metavar="FILE [FILE ...]", help_behavior_hint="(required)")]
    """Style images. The network calls each style by the name of its file."""
    data: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder of photographs, searched recursively."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE.safetensors")]
    """File to write."""

    style_size: Annotated[Numbers, tyro.conf.arg(metavar="N[,N...]")] = None
    """Longer side of the styles in pixels, one number for all or one for each: larger values make larger strokes.
    auto: twice --size."""
    style_weights: Numbers = None
    """Relative strength of each style. auto: 1."""
    steps: int = Recipe.steps
    """Number of training steps."""
    batch_size: int = Recipe.batch_size
    """Photographs per step."""
    size: int = Recipe.size
    """Side of their crops in pixels."""
    learning_rate: float = Recipe.learning_rate
    """Initial learning rate of Adam, which falls along a cosine."""
    content_weight: float = Recipe.terms.content_weight
    """Weight of the content loss."""
    style_weight: float = Recipe.terms.style_weight
    """Weight of the style loss: larger values keep less of the photograph."""
    tv_weight: float = Recipe.terms.tv_weight
    """Weight of the total variation: larger values make results smoother."""
    content_layers: Names = None
    """Layers on which content is compared. auto: the backbone's usual one."""
    style_layers: Names = None
    """Layers on which style is compared. auto: the backbone's usual ones."""
    widths: Counts = StyleNetwork.widths
    """Filters of the network at full, half and quarter size."""
    blocks: int = StyleNetwork.blocks
    """Residual blocks of the network."""
    seed: int = Recipe.seed
    """Seed of the initial parameters, the order of the photographs and the crops."""
    half: bool = False
    """Store float16: half the size, three significant digits."""

    backbone: Text = None
    """Network whose features are compared (see jnst backbones). auto: that of --weights; without --weights the small
    one that jnst contains."""
    weights: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="FILE|NAME")] = ()
    """Its weights file or name (see jnst weights list)."""
    preprocessing: Annotated[Text, tyro.conf.arg(metavar=f"{{auto,{','.join(PREPROCESSINGS)}}}")] = None
    """Input it expects. auto: detected from its weights."""
    offline: bool = False
    """Do not download weights."""
    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Device to compute on. auto: the fastest that JAX finds. Several GPUs divide each batch among them."""

    checkpoint: Annotated[Path | None, optional("FILE")] = None
    """Save the complete training state to this file at every line of the log, and when interrupted."""
    resume: bool = False
    """Continue from the checkpoint."""
    log_every: int = 50
    """Steps between two lines of the log."""
    log: Annotated[Path | None, optional("FILE.jsonl")] = None
    """Write one JSON line every --log-every steps."""
    sheet: Annotated[Path | None, optional("FILE.jpg|png")] = None
    """Show what the network makes of some photographs, drawn anew at every line of the log."""
    sheet_images: Annotated[Files, optional("FILE [FILE ...]")] = ()
    """The photographs to show. Without any, the first three of DIR."""
    force: bool = False
    """Overwrite existing files."""

    def choose_device(self) -> None:
        """Apply ``device``."""
        choose_device(self.device, deterministic=False)

    def run(self) -> int:
        """Read the images, train, and write the network."""
        recipe, network = self._recipe(), self._network()
        self._check_files()
        backbone, params = load_backbone(
            self.backbone, self.weights or None, preprocessing=self.preprocessing, offline=self.offline or None
        )
        check_training(recipe, backbone, len(network.styles), self.style_weights)
        styles = self._load_styles(network)
        shown_images = self._load_sheet_images()
        print(f"jnst: reading photographs in {self.data}", file=sys.stderr, flush=True)
        photos = load_photos(self.data, side=OVERSAMPLING * self.size)
        for error in photos.damaged:
            print(f"jnst: skipped: {error}", file=sys.stderr)
        if (reason := no_accelerator()) is not None:
            print(f"jnst: {reason}, running on the CPU", file=sys.stderr)
        print(f"jnst: photographs: {len(photos.examples)}; styles: {', '.join(styles)}", file=sys.stderr)
        with (
            interruptible(grace=TRAINING_GRACE) as interruption,
            training_progress(COUNT, total=recipe.steps) as (update, print_line),
        ):
            shown_images = shown_images or self._first(photos)
            report = self._reporter(network, shown_images, styles, print_line)
            _, trained = train_style_network(
                photos,
                styles,
                backbone,
                params,
                recipe,
                widths=network.widths,
                blocks=network.blocks,
                style_weights=self.style_weights,
                checkpoint=self.checkpoint,
                resume=self.resume,
                log_every=self.log_every,
                on_step=lambda step: update(completed=step),
                on_record=report,
                stop=lambda: bool(interruption.signal_number),
            )
        if trained.steps < recipe.steps:
            print(stopped_line(self.checkpoint), file=sys.stderr)
            return 128 + interruption.signal_number
        self._save(network, trained, photos, backbone)
        return 0

    def _recipe(self) -> Recipe:
        terms = dataclasses.replace(
            Recipe.terms,
            content_layers=self.content_layers,
            style_layers=self.style_layers,
            content_weight=self.content_weight,
            style_weight=self.style_weight,
            tv_weight=self.tv_weight,
        )
        return Recipe(self.steps, self.batch_size, self.size, self.learning_rate, terms, self.seed)

    def _style_files(self) -> tuple[Path, ...]:
        return tuple(itertools.chain(*self.style))

    def _network(self) -> StyleNetwork:
        """The network, whose styles have the names of their files.

        Raises:
            ArgumentError: No style, two of one name, or as `StyleNetwork`.
        """
        if self.widths is None or len(self.widths) != 3:
            given = ",".join(map(str, self.widths or ("auto",)))
            raise ArgumentError(f"--widths {given}: expected three numbers, such as 16,32,64")
        names = tuple(path.stem for path in self._style_files())
        if not names:
            raise ArgumentError("--style: expected one or more images")
        if repeated := [name for place, name in enumerate(names) if name in names[:place]]:
            raise ArgumentError(
                f"--style: two files are called {repeated[0]}: styles are named after their files: rename one"
            )
        return StyleNetwork(names, self.widths, self.blocks)  # pyright: ignore[reportArgumentType]

    def _check_files(self) -> None:
        if self.resume and self.checkpoint is None:
            raise ArgumentError("--resume needs the file to continue from: add --checkpoint FILE")
        if self.log_every < 1:
            raise ArgumentError(f"--log-every {self.log_every}: expected a number of steps, at least 1")
        if self.sheet is not None and self.sheet.suffix.lower() not in SHEET_FORMATS:
            raise ArgumentError(f"--sheet {self.sheet}: expected a name that ends in {', '.join(SHEET_FORMATS)}")
        if self.sheet_images and self.sheet is None:
            raise ArgumentError("--sheet-images needs the file to show them in: add --sheet FILE")
        files = {"--output": self.output, "--checkpoint": self.checkpoint, "--log": self.log, "--sheet": self.sheet}
        check_outputs(files, resume=self.resume, force=self.force)
        inputs = [*self._style_files(), *itertools.chain(*self.sheet_images), *map(Path, self.weights)]
        for flag, path in files.items():
            if path is None:
                continue
            check_distinct(flag, path, inputs)
            if path.suffix.lower() in SUFFIXES and path.resolve().is_relative_to(self.data.resolve()):
                raise ArgumentError(
                    f"{flag} {shown(path)} would be among the photographs of --data: choose another folder"
                )

    def _load_styles(self, network: StyleNetwork) -> dict[str, Image]:
        files = self._style_files()
        sizes = (2 * self.size,) if self.style_size is None else self.style_size
        sizes = sizes * len(files) if len(sizes) == 1 else sizes
        if len(sizes) != len(files):
            raise ArgumentError(f"--style-size: {len(sizes)} sizes for {len(files)} styles: give one for each")
        if odd := [size for size in sizes if not (float(size).is_integer() and size >= 1)]:
            raise ArgumentError(f"--style-size {odd[0]:g}: expected a number of pixels, at least 1")
        images = (load_image(path, size=int(size)) for path, size in zip(files, sizes, strict=True))
        return dict(zip(network.styles, images, strict=True))

    def _load_sheet_images(self) -> list[tuple[str, Image]]:
        """The images of the sheet that are named, with their names."""
        files = tuple(itertools.chain(*self.sheet_images))
        images = [(path.stem, load_image(path, size=2 * self.size, enlarge=False)) for path in files]
        for path, (_, image) in zip(files, images, strict=True):
            if min(image.shape[:2]) < SMALLEST_SIDE:
                raise ImageError(
                    f"--sheet-images {shown(path)}: {image.shape[1]}x{image.shape[0]} pixels, expected at least "
                    f"{SMALLEST_SIDE}x{SMALLEST_SIDE}: choose a larger image"
                )
        return images

    def _first(self, photos: Photos) -> list[tuple[str, Image]]:
        """The images of the sheet if none are named."""
        chosen = photos.examples[:SHEET_IMAGES] if self.sheet is not None else ()
        crops = [(example.path.stem, centre_crop(read_pixels(example, photos.side), self.size)) for example in chosen]
        return [(name, jax.numpy.asarray(crop, jax.numpy.float32) / 255) for name, crop in crops]

    def _reporter(
        self,
        network: StyleNetwork,
        shown_images: Sequence[tuple[str, Image]],
        styles: Mapping[str, Image],
        print_line: Callable[[str], None],
    ) -> Callable[[Sequence[Record], Params], None]:
        """Return a function that prints each line of the log, writes the log, and draws the sheet."""
        begun, apply = time.perf_counter(), Jit(network.apply)

        def report(history: Sequence[Record], params: Params) -> None:
            print_line(_line(history[-1], self.steps, time.perf_counter() - begun))
            if self.log is not None:
                write_atomically(self.log, "".join(f"{json.dumps(record)}\n" for record in history).encode())
            if self.sheet is not None:
                _draw(self.sheet, shown_images, styles, lambda image, weights: apply(params, image, weights))

        return report

    def _save(self, network: StyleNetwork, trained: Trained, photos: Photos, backbone: Backbone) -> None:
        last = trained.history[-1]
        about = {
            "jnst": jnst.__version__,
            "backbone": f"{backbone.name}, {backbone.training}",
            "photographs": len(photos.examples),
            "style_size": None if self.style_size is None else list(self.style_size),
            "style_weights": None if self.style_weights is None else list(self.style_weights),
            **{name: getattr(self, name) for name in ("steps", "batch_size", "size", "learning_rate", "seed")},
            **{name: getattr(self, name) for name in ("content_weight", "style_weight", "tv_weight")},
            "loss": {name: last[name] for name in ("total", *PARTS)},
        }
        dtype = "float16" if self.half else "float32"
        save_style_network(self.output, network, trained.params, about=about, dtype=dtype)
        count = sum(leaf.size for leaf in jax.tree.leaves(trained.params))
        told = ", ".join(f"{name} {last[name]:.4g}" for name in ("total", *PARTS))
        print(f"{self.output}: {', '.join(network.styles)}, {count:,} parameters, {told}")


def _draw(
    path: Path,
    photographs: Sequence[tuple[str, Image]],
    styles: Mapping[str, Image],
    apply: Callable[[Image, Any], Image],
) -> None:
    """Draw a row for each photograph: itself, then in every style."""
    rows = [Heading(name.replace("_", " "), shape=image.shape[:2]) for name, image in photographs]  # pyright: ignore[reportArgumentType]
    columns = [Heading(name.replace("_", " "), (to_levels(image),)) for name, image in styles.items()]
    images, corners = [image for _, image in photographs], np.eye(len(styles), dtype=np.float32)

    def tile(row: int, column: int) -> Tile:
        return Tile(to_levels(images[row] if column == 0 else apply(images[row], corners[column - 1])))

    shape = max(image.shape[0] for image in images), max(image.shape[1] for image in images)
    buffer = io.BytesIO()
    contact_sheet(rows, [Heading("photograph"), *columns], tile, shape=shape).save(
        buffer, SHEET_FORMATS[path.suffix.lower()], quality=90
    )
    write_atomically(path, buffer.getvalue())


def _line(record: Record, steps: int, seconds: float) -> str:
    parts = "  ".join(f"{name} {record[name]:.4f}" for name in ("total", *PARTS))
    return f"step {record['step']:.0f}/{steps}  {parts}  {seconds:.0f} s"
