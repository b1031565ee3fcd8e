"""Train on one device and on eight, and print the losses and the differences of the gradients as JSON."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from labelled_images import save_classes

from jnst.apps.training.classifier import Settings, batch_loss, init_params, train_classifier
from jnst.apps.training.data import held_out_batches, load_dataset
from jnst.backbones import make_backbone


def main(folder: Path) -> None:
    assert jax.device_count() == 8
    dataset, backbone = load_dataset(save_classes(folder, 6)), make_backbone("convnet", widths="4")
    meshes = [Mesh(np.asarray(jax.devices()[:count]), ("devices",)) for count in (1, 8)]

    params = init_params(jax.random.key(0), backbone, len(dataset.classes))
    gradient = jax.jit(jax.grad(lambda p, batch: batch_loss(p, batch, backbone=backbone)[0]))
    gradients = []
    for mesh in meshes:
        # Six images, padded to eight on eight devices.
        batch = next(held_out_batches(dataset, batch_size=6, size=16, multiple=mesh.size))
        placed = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("devices")))
        assert len(placed.images.devices()) == mesh.size
        replicated = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
        gradients.append(jax.device_get(jax.tree.leaves(gradient(replicated, placed))))
    differences = [float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(*gradients, strict=True)]

    settings = Settings(epochs=1, batch_size=6, size=16)
    runs = [train_classifier(dataset, backbone, settings, mesh=mesh).history for mesh in meshes]
    losses = [[loss for epoch in run for loss in (epoch.train_loss, epoch.test_loss)] for run in runs]
    print(json.dumps({"gradients": differences, "losses": losses}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
