"""Fixtures for tests of training."""

import pytest
from labelled_images import save_classes

from jnst.apps.training.data import Dataset, load_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """72 training images and 24 held out."""
    return load_dataset(save_classes(tmp_path_factory.mktemp("classes")), held_out=0.25, side=64)
