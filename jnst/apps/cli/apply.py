"""`jnst apply` and `jnst export`: use a style network, here or in other programs."""

import dataclasses
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from jnst.apps.cli.arguments import Count, optional
from jnst.apps.cli.startup import choose_device
from jnst.apps.io import check_output, encode_image, find_images, load_alpha, load_image
from jnst.apps.io.load import SUFFIXES
from jnst.apps.io.save import FORMATS, check_encoding
from jnst.errors import ArgumentError, ImageError, JnstError, ResourceError
from jnst.solve.compilation import Jit
from jnst.solve.devices import needed_bytes
from jnst.transfer.memory import check_fits, exhausted, ran_out
from jnst.transfer.network import STRIDE, StyleNetwork
from jnst.transfer.network_export import EXPORTS, PORTABLE, export_style_network
from jnst.transfer.network_files import load_style_network
from jnst.types import Image
from jnst.weights.files import shown, write_atomically

Network = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="NETWORK")]
Shares = Annotated[str | None, optional("NAME[:X],...")]


@dataclasses.dataclass(frozen=True)
class Apply:
    """Repaint images with a style network, in one pass each.

    `jnst train style` makes networks. The name demo stands for the one that jnst contains.
    """

    memory_advice: ClassVar[str] = "--size N"

    network: Network
    """A file from jnst train style, or demo."""
    images: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="IMAGE [IMAGE ...]", help_behavior_hint="(required)"),
    ]
    """Images, or folders of images."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE|DIR", help_behavior_hint="")] = None
    """File to write, or for several images a folder. Without it, photo.jpg in the style waves becomes
    photo-waves.jpg, in the current folder."""

    style: Shares = None
    """Style by name or number, or a mixture: waves:0.7,night:0.3. Without it, the network's first style."""
    size: Count = None
    """Longer side of the results in pixels. auto: as large as each image."""
    bit_depth: Literal[8, 16] = 8
    """Bits per sample: 8, or 16 for PNG and TIFF."""
    quality: int = 95
    """Quality of JPEG and WebP, from 1 to 100."""
    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Device to compute on. auto: the fastest that JAX finds."""
    force: bool = False
    """Allow results to replace existing files."""
    no_program_cache: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Do not keep compiled programs, which let later commands with the same sizes start faster."""

    def choose_device(self) -> None:
        """Apply ``device``."""
        choose_device(self.device, deterministic=False)

    def run(self) -> int:
        """Repaint every image; those that cannot be repainted are named, and the others made."""
        if not self.images:
            raise ArgumentError("no images: name one or more, or folders of images, after the network")
        network, params = load_style_network(self.network)
        weights = network.style_weights(parse_shares(self.style, network))
        if self.style is None and len(network.styles) > 1:
            others = ", ".join(network.styles[1:])
            print(f"jnst: style {network.styles[0]}; --style chooses another: {others}", file=sys.stderr)
        pairs = self._pairs(self._name(network))
        apply = Jit(network.apply)

        def repaint(image: Image) -> Image:
            check_fits(
                needed_bytes(apply.lower(params, image, weights).compile()), f"{image.shape[1]}x{image.shape[0]}"
            )
            return apply(params, image, weights)

        status = 0
        for source, destination in pairs:
            begun = time.perf_counter()
            try:
                shape, content = self._repaint(source, destination, repaint)
            except Exception as error:
                known = _of_one_image(error, source)
                if known is None or len(pairs) == 1:
                    raise (known or error) from error
                print(f"jnst: error: {known}", file=sys.stderr)
                status = known.exit_code
                continue
            write_atomically(destination, content)
            seconds = time.perf_counter() - begun
            print(f"{destination}: {shape[1]}x{shape[0]}, {seconds:.2f} s", flush=True)
        return status

    def _repaint(
        self, source: Path, destination: Path, repaint: Callable[[Image], Image]
    ) -> tuple[tuple[int, int], bytes]:
        """Height and width, and the content of the file."""
        image = load_image(source, size=self.size)
        shape = image.shape[0], image.shape[1]
        alpha = load_alpha(source, shape)
        result = repaint(image)
        return shape, encode_image(destination, result, alpha=alpha, bit_depth=self.bit_depth, quality=self.quality)

    def _name(self, network: StyleNetwork) -> str:
        """What the style adds to the names of files."""
        return network.styles[0] if self.style is None else self.style.replace(":", "-").replace(",", "_")

    def _pairs(self, name: str) -> list[tuple[Path, Path]]:
        """Every image and the file that it becomes.

        Raises:
            ArgumentError: A file cannot be written, exists, or would be written twice.
            ImageError: A folder without images.
        """
        if self.size is not None and self.size < 1:
            raise ArgumentError(f"--size {self.size}: expected a number of pixels, at least 1")
        sources = [path for given in self.images for path in _images_of(given)]
        folder = self.output
        if self.output is None:
            pairs = [(source, Path(f"{source.stem}-{Path(name).name}{_suffix(source)}")) for source in sources]
        elif len(self.images) == 1 and not self.images[0].is_dir() and self.output.suffix and not self.output.is_dir():
            pairs, folder = [(sources[0], self.output)], None
        else:
            if not self.output.is_dir() and (self.output.exists() or self.output.suffix.lower() in SUFFIXES):
                raise ArgumentError(
                    f"--output {shown(self.output)}: expected a folder for several images; choose another name"
                )
            pairs = [(source, self.output / f"{source.stem}{_suffix(source)}") for source in sources]
        self._check(pairs)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        for _, destination in pairs:
            check_output(destination, inputs=sources, force=self.force, bit_depth=self.bit_depth, quality=self.quality)
        return pairs

    def _check(self, pairs: Sequence[tuple[Path, Path]]) -> None:
        taken: dict[Path, Path] = {}
        for source, destination in pairs:
            check_encoding(destination, self.bit_depth, self.quality)
            other = taken.setdefault(destination.absolute(), source)
            if other is not source:
                raise ArgumentError(
                    f"{shown(other)} and {shown(source)} would both become {shown(destination)}: "
                    "rename one, or make them one by one"
                )
            if destination.exists() and not self.force and destination.is_file():
                raise ArgumentError(f"{shown(destination)} exists: choose another --output, or --force to overwrite it")


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a style network as a StableHLO program, for use without jnst.

    The suffix chooses the form: .jax for `jax.export.deserialize`, .stablehlo for portable bytecode, .mlir for text.
    The program takes images (n, h, w, 3), float32 sRGB in [0, 1], and without --style the weights of the styles (S,).
    """

    network: Network
    """A file from jnst train style, or demo."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar=f"FILE{{{','.join(EXPORTS)}}}")]
    """File to write."""
    size: Annotated[str | None, optional("WxH")] = None
    """Width and height of the images. Without it, any number of images of any size whose sides are multiples of 4."""
    style: Shares = None
    """Style or mixture to build in."""
    platforms: tuple[Literal["cpu", "cuda", "rocm", "tpu"], ...] = ("cpu",)
    """Platforms that the program is for: one, or for .jax several."""
    force: bool = False
    """Overwrite an existing file."""

    def run(self) -> int:
        """Write the program, and print its size."""
        write = EXPORTS.get(self.output.suffix.lower())
        if write is None:
            raise ArgumentError(f"--output {shown(self.output)}: expected a name that ends in {', '.join(EXPORTS)}")
        if not self.platforms:
            raise ArgumentError("--platforms: expected one or more of cpu, cuda, rocm, tpu")
        if len(self.platforms) > 1 and self.output.suffix.lower() != PORTABLE:
            raise ArgumentError(
                f"--platforms {' '.join(self.platforms)}: expected one for {self.output.suffix}; several need the form "
                f"{PORTABLE}, the others would take the platform as an argument"
            )
        if self.output.exists() and not self.force:
            raise ArgumentError(f"{shown(self.output)} exists: choose another name, or overwrite it with --force")
        network, params = load_style_network(self.network)
        weights = None if self.style is None else network.style_weights(parse_shares(self.style, network))
        exported = export_style_network(
            network, params, size=parse_size(self.size), style_weights=weights, platforms=self.platforms
        )
        content = write(exported)
        write_atomically(self.output, content)
        sizes = self.size or f"any size in multiples of {STRIDE}"
        print(f"{self.output}: {len(content):,} bytes, {sizes}, {', '.join(self.platforms)}")
        return 0


def parse_shares(text: str | None, network: StyleNetwork) -> dict[str, float] | None:
    """Read ``NAME[:X],...``, where a number is that of a style unless one is called so.

    Raises:
        ArgumentError: A weight that is not a number, or a style that occurs twice.
    """
    if text is None:
        return None
    if text in network.styles:
        return {text: 1.0}
    shares: dict[str, float] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, mark, share = (part, "", "") if part in network.styles else part.rpartition(":")
        name, share = (name.strip(), share) if mark else (part, "1")
        try:
            value = float(share)
        except ValueError:
            raise ArgumentError(
                f"--style {part}: {share!r} is not a number; expected a style and its share, a:0.5"
            ) from None
        if name in shares:
            raise ArgumentError(f"--style: {name} occurs twice; name each style once")
        shares[name] = value
    if not shares:
        raise ArgumentError(f"--style {text!r}: expected the name of a style ({', '.join(network.styles)})")
    return shares


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Read ``WxH`` as height and width.

    Raises:
        ArgumentError: It is something else.
    """
    if text is None:
        return None
    sides = re.fullmatch(r"(\d{1,15})x(\d{1,15})", text.strip().lower())
    if sides is None:
        raise ArgumentError(f"--size {text:.60}: expected width and height in pixels, such as 640x480")
    return int(sides[2]), int(sides[1])


def _images_of(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    images, _ = find_images(path)
    if not images:
        raise ImageError(f"{shown(path)} contains no images: choose a folder that contains some")
    yield from images


def _of_one_image(error: Exception, source: Path) -> JnstError | None:
    """The error with the name of the image, if others may succeed all the same."""
    if ran_out(error):
        error = ResourceError(exhausted(error))
    if not isinstance(error, ImageError | ResourceError):
        return None
    return error if shown(source) in str(error) else type(error)(f"{shown(source)}: {error}")


def _suffix(source: Path) -> str:
    return source.suffix if source.suffix.lower() in FORMATS else ".png"
