"""All metrics of a folder of stylised images as a table.

    python tests/examples/evaluate_folder.py RESULTS CONTENTS STYLE

An image is compared with the file of the same name, whatever its suffix, in CONTENTS (LPIPS, DISTS, SSIM, MS-SSIM,
content distance), and with the image STYLE (style distance). A measure for which an image is too small (MS-SSIM below
176 pixels) is "nan" in the table, and left out of the mean. LPIPS with AlexNet is ArtFID's content part. Its style
part, the FID of an Inception network trained on art, needs that network and many images; the style distance of each
image stands in its place.
"""

import math
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

import jnst
from jnst.apps.io import find_images
from jnst.errors import ImageError, JnstError
from jnst.types import Array, Image

Measures = Mapping[str, Callable[[Image, Image, Image], Array]]
"""``measure(result, content, style)`` by name."""


def make_measures() -> Measures:
    """Load the networks of all metrics: 64 MB for each of AlexNet and VGG16, downloaded once."""
    lpips, lpips_params = jnst.load_lpips("alex")
    dists, dists_params = jnst.load_dists()
    backbone, params = jnst.load_backbone()
    return {
        "LPIPS": lambda result, content, style: lpips(lpips_params, result, content),
        "DISTS": lambda result, content, style: dists(dists_params, result, content),
        "SSIM": lambda result, content, style: jnst.ssim(result, content),
        "MS-SSIM": lambda result, content, style: jnst.ms_ssim(result, content),
        "content": lambda result, content, style: jnst.content_distance(result, content, params, backbone=backbone),
        "style": lambda result, content, style: jnst.style_distance(result, style, params, backbone=backbone),
    }


def evaluate(results: Path, contents: Path, style: Path, measures: Measures) -> dict[str, dict[str, float]]:
    """Measure every image of a folder.

    Args:
        results: A folder of images.
        contents: A folder with an image of the same name and size for each of them. Of several that differ only in
            their suffixes, the one with the same suffix.
        style: The style image.
        measures: What to measure. Images of one size share their compiled programs.

    Returns:
        ``{name: {measure: value}}``; NaN if an image does not suit a measure, and a warning says why.

    Raises:
        ImageError: A folder without images, an image without its content, with several or one of another size, or an
            unreadable one.
    """
    images = find_images(results)[0]
    if not images:
        raise ImageError(f"{results} contains no images: choose a folder that contains some")
    originals = _pair(images, contents)
    compiled = {name: jax.jit(measure) for name, measure in measures.items()}
    painting, table = jnst.load_image(style), {}
    for path in images:
        image, content = jnst.load_image(path), jnst.load_image(originals[path])
        if image.shape != content.shape:
            shapes = " and ".join(f"{x.shape[1]}x{x.shape[0]}" for x in (image, content))
            raise ImageError(f"{path} and {originals[path]} are {shapes} pixels, expected the same size: resize one")
        table[path.name] = {}
        for name, measure in compiled.items():
            try:
                value = float(measure(image, content, painting))
            except ImageError as error:
                warnings.warn(f"{path}: no {name}: {str(error).splitlines()[0]}", stacklevel=2)
                value = math.nan
            table[path.name][name] = value
    return table


def _pair(images: list[Path], contents: Path) -> dict[Path, Path]:
    """The content of each image: the file of the same name, or else the only one with another suffix."""
    originals, pairs = find_images(contents)[0], {}
    for path in images:
        alike = [each for each in originals if each.stem == path.stem]
        alike = [each for each in alike if each.name == path.name] or alike
        if len(alike) != 1:
            found = f"has {' and '.join(each.name for each in alike)} for" if alike else "has no image named like"
            raise ImageError(f"{contents} {found} {path.name}: pair them by their names")
        pairs[path] = alike[0]
    return pairs


def format_table(table: Mapping[str, Mapping[str, float]]) -> str:
    """A line for each image, and the means."""
    names = list(next(iter(table.values())))
    rows = {**table, "mean": {name: _mean([row[name] for row in table.values()]) for name in names}}
    width = max(map(len, rows))
    lines = [" ".join(["".ljust(width), *(name.rjust(8) for name in names)])]
    lines += [" ".join([label.ljust(width), *(f"{row[name]:8.4f}" for name in names)]) for label, row in rows.items()]
    return "\n".join(lines)


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python tests/examples/evaluate_folder.py RESULTS CONTENTS STYLE")
    try:
        results, contents, style = map(Path, sys.argv[1:])
        print(format_table(evaluate(results, contents, style, make_measures())))
    except JnstError as error:
        sys.exit(f"evaluate_folder: {error}")
