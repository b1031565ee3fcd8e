"""Train a style network on one device and on two, and print the losses as JSON."""

import json
import sys
from pathlib import Path

import jax
from test_style_training import BACKBONE, SHORT, SMALL, STYLES

from jnst.apps.training.data import load_photos
from jnst.apps.training.style import train_style_network
from jnst.solve import local_mesh


def main(folder: Path) -> None:
    assert jax.device_count() == 2
    photos, params = load_photos(folder, side=32), BACKBONE.init(jax.random.key(0))
    losses = []
    for devices in (jax.devices()[:1], None):
        mesh = None if devices is None else local_mesh(devices)
        _, trained = train_style_network(photos, STYLES, BACKBONE, params, SHORT, mesh=mesh, **SMALL)
        losses.append([record["total"] for record in trained.history])
    print(json.dumps(losses))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
