"""What a report says about one run, and about a catalogue."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jnst.apps.report.curves import TOTAL
from jnst.apps.report.page import Block, Code, Facts, Figure, Figures, Page, Plot, Table, versions
from jnst.backbones import Backbone
from jnst.errors import ArgumentError
from jnst.presets import Preset
from jnst.transfer.coarse_to_fine import Finished
from jnst.types import Image
from jnst.weights.files import shown

INDEX = "index.json"
MOST_IMAGES = 300
"""Of a catalogue, on a page."""


def run_page(
    solution: Finished,
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
        solution: What `jnst.transfer.stylize`, `jnst.synthesize` or `jnst.reconstruct` returned.
        images: What it was made of, by caption: ``(h, w, 3)`` in [0, 1].
        settings: The preset that it was made under.
        backbone: The network.
        title: Of the page.
        command: What to type to repeat it; empty for nothing.
        about: Further facts, such as seconds or a seed.
    """
    height, width = solution.image.shape[:2]
    losses, steps = solution.losses, len(solution.losses)
    summary = f"{width}x{height} pixels, {steps} steps, network {backbone.name} ({backbone.training} weights)."
    if steps:
        summary += f" Loss {losses[0]:.5g} to {losses[-1]:.5g}."
    made_of = [Figure(image, caption) for caption, image in images.items()]
    parts: list[tuple[str, Sequence[Block]]] = [
        ("Result", [Figures([Figure(solution.image, name="result")], wide=True)]),
        ("Made of", [Figures(made_of)]),
    ]
    if steps:
        curves = {TOTAL: losses} | solution.parts
        parts.append(("Losses", [Plot(curves), loss_table(curves)]))
    kinds = {name.partition("/")[0] for name in solution.parts}
    idle = tuple(f"{kind}_" for kind in ("content", "style") if kind not in kinds)
    facts = {name: fact for name, fact in settings_facts(settings, backbone).items() if not name.startswith(idle)}
    facts |= about or {}
    parts.append(("Settings", [Facts(facts)]))
    parts.append(("Versions", [Facts(versions())]))
    if command:
        parts.append(("To repeat it", [Code(command)]))
    return Page(title, summary, parts)


def loss_table(curves: Mapping[str, np.ndarray]) -> Table:
    """First, lowest and last value of every curve, and its share of the last total."""
    last = float(curves[TOTAL][-1]) if TOTAL in curves else 0.0
    rows = [
        (
            name,
            float(values[0]),
            float(np.min(values)),
            float(values[-1]),
            f"{values[-1] / last:.1%}" if last > 0 else None,
        )
        for name, values in curves.items()
    ]
    return Table(("term", "first", "lowest", "last", "share"), rows, "Weighted terms; they add up to the total.")


def settings_facts(settings: Preset, backbone: Backbone) -> dict[str, str]:
    """Every setting that is set, as it would be written in Python; the layers as the network has them."""
    said: dict[str, str] = {"network": f"{backbone.name}, {backbone.training} weights, to {backbone.layers[-1]}"}
    content, style = settings.layers(backbone)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name not in ("summary", "alternatives") and not _is_unset(value):
            said[field.name] = value if isinstance(value, str) else _said(value)
    return said | {"content_layers": ", ".join(content), "style_layers": ", ".join(style)}


def _is_unset(value: Any) -> bool:
    """Whether a setting is left out; a zero is not."""
    return value is None or value is False


def _said(value: Any) -> str:
    return ", ".join(map(_said, value)) if isinstance(value, tuple) else str(value)


def catalogue_page(folder: Path, *, command: str = "") -> Page:
    """The report of a folder that `jnst grid` filled; its images stay beside the page.

    Args:
        folder: With ``index.json``.
        command: What to type to make or complete it; empty for nothing.

    Raises:
        ArgumentError: The index is missing or unreadable.
    """
    index = _index(folder)
    jobs, counts, backbone = index["jobs"], index["counts"], index["backbone"]
    words = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    made = [job for job in jobs if job["file"]]
    sheets = sorted(folder.glob("sheet*.jpg"))
    parts: list[tuple[str, Sequence[Block]]] = []
    if sheets:
        parts.append(("Contact sheet", [Figures([Figure(sheet, name=sheet.name) for sheet in sheets], wide=True)]))
    figures = [Figure(folder / job["file"], _caption(job)) for job in made[:MOST_IMAGES]]
    left = [f"The first {MOST_IMAGES} of {len(made)}; {INDEX} names all."] if len(made) > MOST_IMAGES else []
    parts.append(("Images", [*left, Figures(figures)] if made else ["None is made yet."]))
    bad = [(f"{Path(job['content']).name} × {_styles(job)}", job["error"]) for job in jobs if job["error"]]
    if bad:
        parts.append(("Failed", [Table(("job", "why"), bad)]))
    settings = {name: _said_json(value) for name, value in index["settings"].items() if not _is_unset(value)}
    network = f"{backbone['name']}, {backbone['training']} weights"
    parts.append(("Settings", [Facts({"preset": index["preset"], "network": network, **settings})]))
    parts.append(("Versions", [Facts({"jnst": index["jnst"], "jax": index["jax"]})]))
    if command:
        parts.append(("To repeat it", [Code(command)]))
    return Page(f"{folder.resolve().name}: {len(jobs)} images", f"{words}; network {network}.", parts)


def _index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ArgumentError(f"{shown(path)} cannot be read ({error}): expected the index that jnst grid writes") from error


def _caption(job: Mapping[str, Any]) -> str:
    changes = "".join(f", {name} {_said_json(value)}" for name, value in job["changes"].items())
    first, last = job["losses"]["first"], job["losses"]["last"]
    loss = f"; loss {first:.4g} to {last:.4g}" if first is not None and last is not None else ""
    return f"{Path(job['content']).name} × {_styles(job)}{changes}{loss}; {job['seconds']:.1f} s"


def _styles(job: Mapping[str, Any]) -> str:
    return " + ".join(Path(style).name for style in job["styles"])


def _said_json(value: Any) -> str:
    """A setting as the index has it, in words: ``Gram(normalization=chw, reduction=mean)``."""
    if isinstance(value, dict):
        fields = [f"{name}={_said_json(part)}" for name, part in value.items() if name != "class"]
        return f"{value.get('class', '')}({', '.join(fields)})"
    return ", ".join(map(_said_json, value)) if isinstance(value, list) else str(value)
