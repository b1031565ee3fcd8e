"""Reports of runs that never happened, and requests to the server that shows them."""

import http.client
import json
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jnst.apps.preview import Preview
from jnst.solve import State
from jnst.transfer import Report


def report(
    first: int,
    num_steps: int,
    losses: Sequence[float] | np.ndarray = (1.0,),
    image: np.ndarray | None = None,
    seconds: float | None = None,
    copies: list[int] | None = None,
) -> Report:
    """The report of a chunk of steps: half a second per step, a quarter of the loss in one part and none in the other.

    Args:
        first: See `Report`, like ``num_steps`` and ``losses``.
        num_steps: See `Report`.
        losses: See `Report`.
        image: ``(h, w, 3)``; by default grey, of brightness ``first / num_steps``.
        seconds: See `Report`.
        copies: Where ``first`` is added whenever the image is asked for.
    """
    shown = jnp.asarray(np.full((12, 16, 3), first / num_steps, np.float32) if image is None else image)
    total = np.asarray(losses, np.float32)

    def make_image() -> Any:
        if copies is not None:
            copies.append(first)
        return jnp.clip(shown, 0, 1)

    return Report(
        runs=(0,),
        first=first,
        num_steps=num_steps,
        losses=total,
        parts={"content/relu2_1": 0.25 * total, "tv": np.zeros_like(total)},
        seconds=0.5 * (first + len(total) - 1) if seconds is None else seconds,
        compile_seconds=0.0,
        scale=0,
        state=State(shown, None, jnp.int32(first), jnp.asarray(True)),
        make_image=make_image,
    )


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def ask(preview: Preview, path: str = "/state", method: str = "GET", **headers: str) -> Answer:
    """Send a request on a new connection."""
    host, _, port = preview.address.removeprefix("http://").rstrip("/").rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def state_of(preview: Preview) -> dict[str, Any]:
    """The state as a page gets it."""
    return json.loads(ask(preview).body)


def connect(preview: Preview) -> socket.socket:
    """Open a connection to the server."""
    port = int(preview.address.rstrip("/").rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def raw(preview: Preview, request: bytes) -> bytes:
    """Send bytes, and return everything that the server answers until it closes the connection."""
    with connect(preview) as connection:
        connection.sendall(request)
        answer = b""
        while data := connection.recv(65536):
            answer += data
        return answer
