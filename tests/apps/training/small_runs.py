"""A network, settings and comparisons for short training runs."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jnst.apps.training.classifier import Epoch, Settings
from jnst.backbones import make_backbone
from jnst.weights.convert import flatten

BACKBONE = make_backbone("convnet", widths="4/8")
SHORT = Settings(epochs=3, batch_size=8, size=16)


def assert_same(left: Any, right: Any) -> None:
    left, right = flatten(left), flatten(right)
    assert left.keys() == right.keys()
    for name in left:
        assert np.asarray(left[name]).tobytes() == np.asarray(right[name]).tobytes(), name


def without_seconds(history: Sequence[Epoch]) -> list[Epoch]:
    return [dataclasses.replace(epoch, seconds=0.0) for epoch in history]
