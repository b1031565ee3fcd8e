"""Content hashes: two jobs with the same hash make the same image."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jnst.backbones import Backbone
from jnst.presets import Preset
from jnst.presets.overrides import PARTS
from jnst.types import Params

NUMERICS = 2
"""Increased whenever a new version of jnst makes other images from the same inputs and settings."""

IRRELEVANT = ("summary", "source", "alternatives")
"""The fields of a preset that do not influence the image."""


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits.

    Raises:
        OSError: The file cannot be read, or is not a regular file.
    """
    if not path.is_file():
        raise OSError(f"{path} is not a regular file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain(value: Any) -> Any:
    """Convert settings to types that JSON has: dataclasses become objects with the name of their class.

    Raises:
        TypeError: A value cannot be converted.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__} | fields
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} in settings: expected numbers, names and dataclasses of them")


def settings_json(settings: Preset) -> dict[str, Any]:
    """The settings that influence the image, in types that JSON has: the fields of all parts, by their names alone."""
    whole = plain(settings)
    parts = {name: value for part in PARTS for name, value in whole[part].items() if name != "class"}
    return parts | {name: value for name, value in whole.items() if name not in ("class", *PARTS, *IRRELEVANT)}


@functools.lru_cache(maxsize=1024)
def _settings_text(settings: Preset) -> str:
    return json.dumps(settings_json(settings), sort_keys=True)


def network_digest(backbone: Backbone, params: Params) -> str:
    """A hash of a network's architecture, options, preprocessing and parameters."""
    options = {name: getattr(backbone.network, name) for name in backbone.options}
    facts = (backbone.name, backbone.training, options, backbone.preprocessing, backbone.layers)
    digest = hashlib.sha256(json.dumps(plain(facts), sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def job_digest(
    content: str, styles: list[str], settings: Preset, seed: int, network: str, writing: Mapping[str, Any]
) -> str:
    """A hash of everything that an image file depends on.

    Args:
        content: The hash of the content image's file.
        styles: The hashes of the style images' files.
        settings: The settings, with all changes.
        seed: For noise and stochastic losses.
        network: From `network_digest`.
        writing: How images are cropped, resized and encoded.
    """
    whole = {
        "numerics": NUMERICS,
        "content": content,
        "styles": styles,
        "settings": _settings_text(settings),
        "seed": seed,
        "network": network,
        "writing": plain(writing),
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
