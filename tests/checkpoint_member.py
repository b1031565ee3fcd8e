"""One of two processes: it saves a state whose images they share, twice, and reads it again."""

import json
import os
import sys
import time
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def connect(rank: int, folder: Path) -> None:
    """Meet the other process at a port that the first one chooses."""
    import socket

    port = folder / "port"
    if rank == 0:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            (folder / "port.new").write_text(str(taken.getsockname()[1]))
        os.replace(folder / "port.new", port)
    while not port.exists():
        time.sleep(0.01)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port.read_text()}", 2, rank)


def main(rank: int, folder: Path) -> None:
    connect(rank, folder)
    import jnst

    begun = jnst.load_state(folder / "begun")
    mesh = Mesh(np.asarray(jax.devices()), ("rows",))

    def divided(leaf: jax.Array) -> jax.Array:
        rows = PartitionSpec("rows") if leaf.ndim == 3 else PartitionSpec()
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, NamedSharding(mesh, rows), lambda index: whole[index])

    # The state as a run of both would have it; what each has for itself alone is the same in both.
    leaves = {name: leaf if name == ".scale" else divided(leaf) for name, leaf in begun.leaves.items()}
    assert not leaves[".run.image"].is_fully_addressable
    state = jnst.SavedState(leaves, {}, {})
    for number in (1, 2):
        jnst.save_state(folder / "state", state, about={"number": number}, records={"losses": np.asarray([1.0, 2.0])})
    found = jnst.load_state(folder / "state")
    same = {
        name: np.asarray(found.leaves[name]).tobytes() == np.asarray(leaf).tobytes()
        for name, leaf in begun.leaves.items()
    }
    (folder / f"read-{rank}.json").write_text(json.dumps({"about": found.about, "same": same}))
    multihost_utils.sync_global_devices("read")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
