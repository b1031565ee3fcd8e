"""What makes two jobs one: hashes of all that an image depends on."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jnst.backbones import Backbone
from jnst.presets import Preset
from jnst.types import Params

NUMERICS = 1
"""Raised whenever jnst makes other images than before from the same inputs and settings."""

IRRELEVANT = ("summary", "source", "alternatives")
"""The fields of a preset on which no image depends."""


class FileHashes:
    """SHA-256 of files' contents in hexadecimal digits, each file read once."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def __call__(self, path: Path) -> str:
        """The hash of a file's content.

        Raises:
            OSError: It cannot be read.
        """
        if path not in self._known:
            self._known[path] = file_hash(path)
        return self._known[path]


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    if not path.is_file():
        raise OSError(f"{path} is no regular file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain(value: Any) -> Any:
    """Settings as JSON has them: dataclasses become objects with the name of their class.

    Raises:
        TypeError: Something that has no such form.
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
    """The settings on which images depend, as JSON has them."""
    return {name: value for name, value in plain(settings).items() if name not in ("class", *IRRELEVANT)}


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
    """A hash of all that an image file depends on.

    Args:
        content: The hash of the content's file.
        styles: Those of the styles' files.
        settings: With all changes put in.
        seed: For noise and losses that draw at random.
        network: From `network_digest`.
        writing: What becomes of the images on their way in and out.
    """
    whole = {
        "numerics": NUMERICS,
        "content": content,
        "styles": styles,
        "settings": settings_json(settings),
        "seed": seed,
        "network": network,
        "writing": plain(writing),
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
