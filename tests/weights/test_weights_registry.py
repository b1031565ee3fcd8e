"""The table of published sources against the shared notes, and the lines made from it."""

import hashlib
import re
from pathlib import Path

import pytest

from jnst.backbones import BACKBONES
from jnst.weights.layouts import LAYOUTS
from jnst.weights.registry import SOURCES, where_to_get

DIGITS = {"sha256": 64, "md5": 32, "sha256-prefix": 8, "none": 0}


@pytest.mark.parametrize("name", SOURCES)
def test_rows_are_sound(name: str) -> None:
    source = SOURCES[name]
    assert name.startswith(f"{source.architecture}/")
    assert source.architecture in BACKBONES
    assert source.address.startswith("https://")
    assert re.fullmatch(r"[0-9a-f]*", source.hash_value)
    assert len(source.hash_value) == DIGITS[source.hash_kind]
    suits = [
        layout
        for layout in LAYOUTS.values()
        if (source.architecture in layout.architectures, layout.training) == (True, source.training)
    ]
    assert suits
    assert all(layout.preprocessing == source.preprocessing for layout in suits)


def test_hashes_and_addresses_are_the_documented_ones(shared: Path) -> None:
    notes = (shared / "weights" / "README.md").read_text()
    sums = (shared / "weights" / "SHA256SUMS").read_text()
    for source in SOURCES.values():
        assert source.hash_value in notes + sums
        assert source.address.rpartition("/")[2].removesuffix(".h5").replace("vgg16_", "vgg19_") in notes.replace(
            "vgg16_", "vgg19_"
        )
    model = (shared / "weights" / "vgg19-oxford-tfjs" / "model.json").read_bytes()
    assert hashlib.sha256(model).hexdigest() == SOURCES["vgg19/oxford-tfjs"].hash_value


def test_where_to_get_is_one_line_with_all_that_is_needed() -> None:
    line = where_to_get("vgg19", "torchvision")
    for part in ("vgg19.tv_in1k", "575 MB", "sha256 11aea017b543", "BSD-3-Clause", "pass its path as weights"):
        assert part in line
    assert "\n" not in line
    assert "oxford" not in where_to_get("vgg16", "torchvision")
    assert "vgg16_weights_tf" in where_to_get("vgg16")
    assert "no source of resnet18 weights is known (there are vgg19/oxford" in where_to_get("resnet18")
    assert "no source of vgg19/lpips weights" in where_to_get("vgg19", "lpips")
