"""The contents of reports: of one run, and of a folder of images."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jnst.apps.report.curves import TOTAL
from jnst.apps.report.page import Block, Code, Facts, Figure, Figures, Page, Plot, Table, versions
from jnst.backbones import Backbone
from jnst.backbones.kernels.algorithms import resolve_precision
from jnst.errors import ArgumentError
from jnst.presets import Preset
from jnst.presets.overrides import PLACES, setting
from jnst.solve import Solution
from jnst.types import Image
from jnst.weights.files import shown

INDEX = "index.json"
MAX_IMAGES = 300
"""How many images of a folder a page shows."""


def run_page(
    solution: Solution,
    images: Mapping[str, Image | np.ndarray],
    settings: Preset,
    backbone: Backbone,
    *,
    title: str,
    command: str = "",
    about: Mapping[str, Any] | None = None,
) -> Page:
    """The report of one run: images, losses, settings, versions, and how to repeat it.

    Args:
        solution: The result of `jnst.stylize`, `jnst.synthesize` or `jnst.reconstruct`.
        images: The images it was made from, by caption: ``(h, w, 3)`` in [0, 1].
        settings: The preset.
        backbone: The network.
        title: The page's title.
        command: The command that repeats the run; empty for none.
        about: Further facts, such as the time or the seed.
    """
    height, width = solution.image.shape[:2]
    losses = np.asarray(solution.losses)
    summary = f"{width}x{height} pixels, {len(losses)} steps, network {backbone.name} ({backbone.training} weights)."
    sections: list[tuple[str, Sequence[Block]]] = [
        ("Result", [Figures([Figure(solution.image, name="result")], wide=True)]),
        ("Made from", [Figures([Figure(image, caption) for caption, image in images.items()])]),
    ]
    if len(losses):
        summary += f" The loss went from {losses[0]:.5g} to {losses[-1]:.5g}."
        curves = {TOTAL: losses} | {name: np.asarray(values) for name, values in solution.parts.items()}
        sections.append(("Losses", [Plot(curves), _loss_table(curves)]))
    kinds = {name.partition("/")[0] for name in solution.parts}
    unused = tuple(f"{kind}_" for kind in ("content", "style") if kind not in kinds)
    facts = {name: fact for name, fact in _settings_facts(settings, backbone).items() if not name.startswith(unused)}
    sections += [("Settings", [Facts(facts | dict(about or {}))]), ("Versions", [Facts(versions())])]
    return Page(title, summary, sections + _repeat(command))


def _loss_table(curves: Mapping[str, np.ndarray]) -> Table:
    """The first, lowest and last value of every curve, and its share of the last total."""
    total = float(curves[TOTAL][-1])
    rows = []
    for name, values in curves.items():
        share = f"{values[-1] / total:.1%}" if total > 0 else None
        rows.append((name, float(values[0]), float(np.min(values)), float(values[-1]), share))
    return Table(("term", "first", "lowest", "last", "share"), rows, "Weighted terms, which add up to the total.")


def _settings_facts(settings: Preset, backbone: Backbone) -> dict[str, str]:
    """All settings that are set, with the layers as they are on this network."""
    content, style = settings.terms.layers(backbone)
    values = {name: setting(settings, name) for name in PLACES} | {
        "keep_color": settings.keep_color,
        "seamless": settings.seamless,
    }
    facts = {"network": f"{backbone.name}, {backbone.training} weights, to {backbone.layers[-1]}"}
    if "precision" in backbone.options:
        facts["precision"] = resolve_precision(backbone.precision, jax.default_backend())
    facts |= {name: _text(value) for name, value in values.items() if _is_set(value)}
    return facts | {
        "content_layers": ", ".join(content),
        "style_layers": ", ".join(style),
        "source": settings.source,
    }


def _is_set(value: Any) -> bool:
    """Whether a setting is worth showing: neither None nor False, but zeros are."""
    return value is not None and value is not False


def _text(value: Any) -> str:
    return ", ".join(map(_text, value)) if isinstance(value, tuple) else str(value)


def _repeat(command: str) -> list[tuple[str, Sequence[Block]]]:
    return [("To repeat it", [Code(command)])] if command else []


def catalogue_page(folder: Path, *, command: str = "") -> Page:
    """The report of a folder that ``jnst grid`` has filled. The page links to the images in the folder.

    Args:
        folder: A folder with an ``index.json``.
        command: The command that makes or completes the folder; empty for none.

    Raises:
        ArgumentError: The index is missing or cannot be read.
    """
    index = _load_index(folder)
    jobs, counts, backbone = index["jobs"], index["counts"], index["backbone"]
    network = f"{backbone['name']}, {backbone['training']} weights"
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    done = [job for job in jobs if job["file"]]
    sections: list[tuple[str, Sequence[Block]]] = []
    if sheets := sorted(folder.glob("sheet*.jpg")):
        figures = Figures([Figure(sheet, name=sheet.name) for sheet in sheets], wide=True)
        sections.append(("Contact sheet", [figures]))
    blocks: list[Block] = []
    if len(done) > MAX_IMAGES:
        blocks.append(f"The first {MAX_IMAGES} of {len(done)}. {INDEX} lists all of them.")
    blocks.append(Figures([Figure(folder / job["file"], _caption(job)) for job in done[:MAX_IMAGES]]))
    sections.append(("Images", blocks if done else ["There are no images yet."]))
    if failed := [(f"{Path(job['content']).name} × {_styles(job)}", job["error"]) for job in jobs if job["error"]]:
        sections.append(("Failed", [Table(("job", "error"), failed)]))
    settings = {name: _json_text(value) for name, value in index["settings"].items() if _is_set(value)}
    sections.append(("Settings", [Facts({"preset": index["preset"], "network": network} | settings)]))
    sections.append(("Versions", [Facts({"jnst": index["jnst"], "jax": index["jax"]})]))
    title = f"{folder.resolve().name}: {len(jobs)} images"
    return Page(title, f"{summary}; network {network}.", sections + _repeat(command))


def _load_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ArgumentError(
            f"{shown(path)} cannot be read ({error}): expected the index that jnst grid writes"
        ) from error


def _json_text(value: Any) -> str:
    """A setting of an index as text: ``Gram(normalization=chw, reduction=mean)``."""
    if isinstance(value, dict):
        fields = [f"{name}={_json_text(part)}" for name, part in value.items() if name != "class"]
        return f"{value.get('class', '')}({', '.join(fields)})"
    return ", ".join(map(_json_text, value)) if isinstance(value, list) else str(value)


def _caption(job: Mapping[str, Any]) -> str:
    changes = "".join(f", {name} {_json_text(value)}" for name, value in job["changes"].items())
    first, last = job["losses"]["first"], job["losses"]["last"]
    loss = f"; loss {first:.4g} to {last:.4g}" if first is not None and last is not None else ""
    return f"{Path(job['content']).name} × {_styles(job)}{changes}{loss}; {job['seconds']:.1f} s"


def _styles(job: Mapping[str, Any]) -> str:
    return " + ".join(Path(style).name for style in job["styles"])
