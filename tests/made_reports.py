"""Reports of a run that never was, and what a browser, or nobody well-meaning, would ask about it."""

import http.client
import json
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from jnst.apps.preview import Preview
from jnst.solve.run import Method, Report, State


def _no_loss(image: Any, args: Any, step: Any) -> tuple[Any, dict[str, Any]]:
    raise AssertionError("nothing is computed here")


METHOD = Method(_no_loss, optax.identity())


def report(
    first: int,
    num_steps: int,
    totals: Sequence[float] | np.ndarray = (1.0,),
    image: np.ndarray | None = None,
    seconds: float | None = None,
) -> Report:
    """A chunk's report: two parts, of which the second is zero; the image grey, ``first / num_steps`` bright."""
    picture = np.full((12, 16, 3), first / num_steps, np.float32) if image is None else image
    state = State(jnp.asarray(picture), None, jnp.int32(first), jnp.asarray(True))
    total = np.asarray(totals, np.float32)
    parts = {"content/relu2_1": 0.25 * total, "tv": np.zeros_like(total)}
    last = first + len(total) - 1
    return Report(first, num_steps, total, parts, 0.5 * last if seconds is None else seconds, state, METHOD)


class Answer(NamedTuple):
    """What a server said."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def ask(preview: Preview, path: str = "/state", method: str = "GET", **headers: str) -> Answer:
    """One request on a connection of its own."""
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
    """A connection to the server."""
    port = int(preview.address.rstrip("/").rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def raw(preview: Preview, request: bytes) -> bytes:
    """What comes back for these bytes until the server hangs up."""
    with connect(preview) as connection:
        connection.sendall(request)
        answer = b""
        while data := connection.recv(65536):
            answer += data
        return answer
