"""Downloads from a server that answers wrongly: the right file is cached or none, and the error says why."""

from pathlib import Path

import fake_server
import numpy as np
import pytest
from fake_server import Answer, correct, first, half, serving
from published import FOLDER, NAME, Publish, keras_file, kernels, row

from jnst import WeightsError
from jnst.weights import read_weights
from jnst.weights.store import fetch, verify

GOOD = keras_file()
FLIPPED = GOOD[:-100] + bytes([GOOD[-100] ^ 1]) + GOOD[-99:]
PAGE = b"<!doctype html><html><body>Sign in to the hotel's network</body></html>"


def check_cached(path: Path) -> None:
    """The cached weights are the published ones, and nothing unchecked is left."""
    read = read_weights(path)
    assert list(read.params) == list(kernels())
    for name, array in kernels().items():
        np.testing.assert_array_equal(read.params[name], array)
    assert [verdict.fault for verdict in verify() if verdict.name == NAME] == [""]
    assert sorted(file.name for file in path.parent.iterdir()) == ["lock", "record.json", "weights.safetensors"]


HARMLESS: dict[str, tuple[Answer, int]] = {
    "correct": (correct, 1),
    "truncated, once": (first(half), 2),
    "wrong bytes, once": (first(fake_server.send(FLIPPED)), 2),
    "busy, once": (first(fake_server.status(503, Retry_After="0")), 2),
    "too many requests, once": (first(fake_server.status(429)), 2),
    "connection reset, once": (first(fake_server.reset), 2),
    "silent, once": (first(fake_server.silent), 2),
    "stalled, once": (first(fake_server.stalled), 2),
    "no length": (fake_server.send(GOOD, Content_Length=None), 1),
    "chunked": (fake_server.chunked, 1),
    "compressed": (fake_server.compressed, 1),
    "redirected": (fake_server.redirect("{}/there/weights.bin"), 2),
}
"""Answers after which the download succeeds, and the number of requests."""


@pytest.mark.parametrize("name", HARMLESS)
def test_downloads_that_succeed(name: str, publish: Publish) -> None:
    answer, requests = HARMLESS[name]
    with serving({"weights.bin": GOOD}, answer) as server:
        publish(row(f"{server.address}/weights.bin", GOOD))
        check_cached(fetch(NAME))
        assert len(server.requested) == requests
        # The second call sends no request.
        fetch(NAME)
        assert len(server.requested) == requests


FATAL: dict[str, tuple[Answer, int | None, str]] = {
    "not found": (fake_server.status(404), 1, "the server answered 404 Not Found"),
    "forbidden": (fake_server.status(403), 1, "answered 403"),
    "gone": (fake_server.status(410), 1, "answered 410"),
    "no content": (fake_server.status(204), 2, "has sha256 "),
    "not modified": (fake_server.status(304), 2, "has sha256 "),
    "broken": (fake_server.status(503), 2, "answered 503"),
    "redirect loop": (fake_server.redirect_loop, None, "redirects"),
    "redirected to a file": (fake_server.redirect("file:///etc/passwd"), 2, "file:///etc/passwd"),
    "redirected to nonsense": (fake_server.redirect("https://[/"), 2, "could not download"),
    "truncated": (half, 2, "the request failed"),
    "wrong bytes": (fake_server.send(FLIPPED), 2, "has sha256 "),
    "a shorter file": (fake_server.send(GOOD[:-4]), 2, "has sha256 "),
    "a longer file": (fake_server.send(GOOD + b"!"), 2, "has sha256 "),
    "no length, truncated": (fake_server.send(GOOD[:5000], Content_Length=None), 2, "has sha256 "),
    "empty": (fake_server.send(b""), 2, "has sha256 "),
    "a web page": (fake_server.send(PAGE, Content_Type="text/html; charset=utf-8"), 2, "has sha256 "),
    "far too large": (fake_server.send(bytes(10 * len(GOOD) + 10**6)), 1, "sent more than "),
    "endless": (fake_server.endless, 1, "sent more than "),
    "a length that is no number": (fake_server.send(GOOD, Content_Length="many"), 2, "could not download"),
    "no HTTP": (fake_server.garbage, 2, "the request failed"),
    "unprintable": (lambda handler, number: handler.send_error(404, "\x1b[31mred"), 1, r"\x1b[31mred"),
    "silent": (fake_server.silent, 2, "did not answer within 0.5 s"),
}
"""Answers after which the download fails, the number of requests, and what the error says."""


@pytest.mark.parametrize("name", FATAL)
def test_downloads_that_fail(name: str, tmp_path: Path, publish: Publish) -> None:
    answer, requests, words = FATAL[name]
    with serving({"weights.bin": GOOD}, answer) as server:
        publish(row(f"{server.address}/weights.bin", GOOD))
        with pytest.raises(WeightsError) as caught:
            fetch(NAME)
        assert requests in (None, len(server.requested))
    message = str(caught.value)
    assert words in message
    assert message.isprintable()
    # What to do instead.
    for part in (f"could not download {NAME}", "sha256 ", server.address, str(tmp_path / FOLDER / "weights.bin")):
        assert part in message
    assert [file.name for file in (tmp_path / FOLDER).rglob("*")] == ["lock"]


def test_no_server(publish: Publish) -> None:
    publish(row("http://127.0.0.1:9/weights.bin", GOOD))
    with pytest.raises(WeightsError, match=r"could not download vgg19/test: the request failed \(.*refused\)"):
        fetch(NAME)
