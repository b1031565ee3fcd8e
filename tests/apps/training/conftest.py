"""The small classes, read once."""

import pytest
from classes import save_classes

from jnst.apps.training.data import Dataset, load_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """72 images to train on and 24 held out."""
    return load_dataset(save_classes(tmp_path_factory.mktemp("classes")), held_out=0.25, side=64)
