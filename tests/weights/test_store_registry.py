"""What the registry says of downloads, against the shared notes and the networks' own shapes."""

import hashlib
import math
from pathlib import Path

import pytest

from jnst.backbones import param_shapes
from jnst.errors import JnstError
from jnst.weights.registry import HEADS, SOURCES, find_source, get_source


def test_hashes_of_heads_and_shards_are_those_of_the_real_files(shared: Path) -> None:
    folder = shared / "weights"
    for source in HEADS.values():
        content = (folder / "lpips-heads" / source.file_name).read_bytes()
        assert (source.hash_kind, source.hash_value) == ("sha256", hashlib.sha256(content).hexdigest())
        assert source.megabytes == pytest.approx(len(content) / 1e6, rel=0.05)
    shards = SOURCES["vgg19/oxford-tfjs"].shards
    assert set(shards) == {path.name for path in (folder / "vgg19-oxford-tfjs").glob("group*")}
    for name, digest in shards.items():
        assert hashlib.sha256((folder / "vgg19-oxford-tfjs" / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.needed_megabytes])
def test_what_is_needed_is_what_the_network_has(name: str) -> None:
    source = get_source(name)
    numbers = sum(map(math.prod, param_shapes(source.architecture).values()))
    assert source.needed_megabytes == pytest.approx(4e-6 * numbers, abs=0.5)
    assert source.megabytes is not None
    assert 4e-6 * numbers < source.megabytes
    assert source.file_name.endswith(".safetensors")


def test_every_source_in_the_shared_notes_has_a_row(shared: Path) -> None:
    notes = (shared / "weights" / "README.md").read_text()
    for published in ("vgg19.tv_in1k", "vgg16.tv_in1k", "resnet50.tv_in1k", "vgg19_weights.h5", "vgg19-dcbb9e9d.pth"):
        assert published in notes
        assert any(published in source.address for source in SOURCES.values())


def test_names_are_found_and_near_ones_offered() -> None:
    assert find_source("vgg19") == "vgg19/oxford"
    assert find_source("resnet50") == "resnet50/torchvision"
    assert find_source("lpips/vgg") == "lpips/vgg"
    assert get_source("vgg19/flaxmodels").file_name == "vgg19_weights.h5"
    with pytest.raises(JnstError, match=r"'vgg19/oxfrod': did you mean vgg19/oxford"):
        find_source("vgg19/oxfrod")
    with pytest.raises(JnstError, match=r"'zzz': there are vgg19, .*lpips/alex"):
        find_source("zzz")
