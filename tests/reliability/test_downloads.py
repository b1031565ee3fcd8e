"""Downloads from a server that lies: what is kept is right or nothing, and the error says what happened."""

import gzip
from pathlib import Path

import liar
import numpy as np
import pytest
from liar import Lie, first, half, honest, serving
from published import FOLDER, NAME, Publish, keras_file, kernels, ranged_row, row, torch_file

from jnst import WeightsError
from jnst.weights import read_weights
from jnst.weights.store import fetch, verify

GOOD = keras_file()
FLIPPED = GOOD[:-100] + bytes([GOOD[-100] ^ 1]) + GOOD[-99:]
OTHER = bytes(len(GOOD))
PAGE = b"<!doctype html><html><body>Sign in to the hotel's network</body></html>"


def check_kept(path: Path) -> None:
    """The cached weights are the published ones, sound, and nothing unchecked is left."""
    read = read_weights(path)
    assert list(read.params) == list(kernels())
    for name, array in kernels().items():
        np.testing.assert_array_equal(read.params[name], array)
    assert [verdict.fault for verdict in verify() if verdict.name == NAME] == [""]
    assert sorted(file.name for file in path.parent.iterdir()) == ["lock", "record.json", "weights.safetensors"]


def check_empty(folder: Path) -> None:
    """Nothing is left but the lock."""
    assert [file.name for file in folder.rglob("*")] == ["lock"]


BEARABLE: dict[str, tuple[Lie, int]] = {
    "nothing but the truth": (honest, 1),
    "cut short, then the rest": (first(half), 2),
    "cut short twice": (first(half, half), 3),
    "ranges ignored": (first(half, then=liar.whole), 2),
    "another part than asked for": (first(half, liar.from_the_beginning), 3),
    "Content-Range with another length": (first(half, liar.ranged(lambda a, n: f"bytes {a}-{n}/{n + 1}")), 3),
    "Content-Range that is none": (first(half, liar.ranged(lambda a, n: "bytes */*")), 3),
    "Content-Range of ten thousand digits": (first(half, liar.ranged(lambda a, n: "bytes 0-" + "9" * 9999)), 3),
    "changed between parts, and says so": (
        first(lambda handler, n: liar.serve(handler, OTHER, liar.OTHER_TAG, len(OTHER) // 2)),
        2,
    ),
    "changed between parts, and does not say so": (
        first(half, liar.ranged(lambda a, n: f"bytes {a}-{n - 1}/{n}", liar.OTHER_TAG)),
        3,
    ),
    "no more of the file, suddenly": (first(half, liar.status(416)), 3),
    "wrong bytes, once": (first(liar.dressed(FLIPPED)), 2),
    "wrong bytes in the second part": (
        first(half, lambda handler, n: liar.serve(handler, OTHER)),
        3,
    ),
    "busy, with a time to come back": (first(liar.status(503, Retry_After="0"), liar.status(429)), 3),
    "broken, then mended": (first(liar.status(500), liar.status(502)), 3),
    "connection reset": (first(liar.reset, liar.reset), 3),
    "slow drip, once": (first(liar.drip), 2),
    "headers in drips, once": (first(liar.drip_head), 2),
    "silence, once": (first(liar.silence), 2),
    "no length": (lambda handler, n: liar.dressed(GOOD, Content_Length=None)(handler, n), 1),
    "in chunks": (liar.chunked, 1),
    "redirected": (liar.redirect("{}/there/weights.bin"), 2),
    "redirected with a right hash": (liar.redirect("{}/there/weights.bin", X_Linked_ETag="RIGHT"), 2),
}
"""Lies that a download survives, and how many requests it takes."""


@pytest.mark.parametrize("name", BEARABLE)
def test_lies_that_are_survived(name: str, tmp_path: Path, publish: Publish) -> None:
    lie, requests = BEARABLE[name]
    with serving({"weights.bin": GOOD}, lie) as server:
        publish(row(f"{server.address}/weights.bin", GOOD))
        check_kept(fetch(NAME))
        assert len(server.asked) == requests
        # The second time asks nobody.
        fetch(NAME)
        assert len(server.asked) == requests


FATAL: dict[str, tuple[Lie, int, str]] = {
    "not found": (liar.status(404), 1, "answered 404"),
    "forbidden": (liar.status(403), 1, "answered 403"),
    "gone": (liar.status(410), 1, "answered 410"),
    "no content": (liar.status(204), 1, "answered 204"),
    "not modified": (liar.status(304), 1, "answered 304"),
    "asks for an hour": (liar.status(429, Retry_After="3600"), 1, "asks to wait 3600 s"),
    "asks for an hour by the clock": (liar.in_an_hour, 1, "asks to wait 3"),
    "broken for good": (liar.status(503), 4, "answered 503"),
    "in circles": (liar.in_circles, 5, "redirects in circles"),
    "ever further": (liar.ever_further, 11, "redirects in circles"),
    "redirected to plain http": (liar.redirect("http://localhost:1/weights.bin"), 1, "is not an https address"),
    "redirected to a file": (liar.redirect("file:///etc/passwd"), 1, "or to nowhere"),
    "redirected to nonsense": (liar.redirect("https://[/"), 1, "cannot be had"),
    "another file by its own word": (
        liar.redirect("{}/there/weights.bin", X_Linked_ETag='"' + "0" * 64 + '"'),
        2,
        "states sha256 0000",
    ),
    "wrong bytes, always": (liar.dressed(FLIPPED), 2, "has sha256 "),
    "a shorter file": (liar.dressed(GOOD[:-4]), 2, "has sha256 "),
    "a longer file": (liar.dressed(GOOD + b"!"), 2, "has sha256 "),
    "no length, cut short": (liar.dressed(GOOD[:5000], Content_Length=None), 2, "has sha256 "),
    "nothing": (liar.dressed(b""), 2, "has sha256 "),
    "a web page": (liar.dressed(PAGE, Content_Type="text/html; charset=utf-8"), 1, "a web page instead"),
    "a web page in disguise": (liar.dressed(PAGE, Content_Type="application/octet-stream"), 2, "has sha256 "),
    "packed": (liar.dressed(gzip.compress, Content_Encoding="gzip"), 1, "encoded ('gzip')"),
    "far too large": (liar.dressed(b"", Content_Length=10**12), 1, "announces 1000000000000 bytes"),
    "endless": (liar.endless, 1, "sends more than"),
    "no HTTP": (liar.garbage, 1, "makes no sense"),
    "a part that nobody asked for": (
        lambda handler, n: handler.head(206, Content_Range="bytes 5-9/10", Content_Length=5),
        4,
        "another part",
    ),
    "drips for ever": (liar.drip, 4, "bytes a second"),
    "silent for ever": (liar.silence, 4, "no answer in time"),
}
"""Lies that no download survives, how many requests are made, and what the error says."""


@pytest.mark.parametrize("name", FATAL)
def test_lies_that_end_a_download(name: str, tmp_path: Path, publish: Publish) -> None:
    lie, requests, words = FATAL[name]
    with serving({"weights.bin": GOOD}, lie) as server:
        publish(row(f"{server.address}/weights.bin", GOOD))
        with pytest.raises(WeightsError) as caught:
            fetch(NAME)
        assert len(server.asked) == requests
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    # What to do instead.
    for part in (NAME, "sha256 ", server.address, str(tmp_path / FOLDER / "weights.bin")):
        assert part in message
    if name == "drips for ever":
        # What can be gone on with may stay, unchecked.
        assert not (tmp_path / FOLDER / "weights.safetensors").exists()
    else:
        check_empty(tmp_path / FOLDER)


def test_what_was_cut_short_again_and_again_is_gone_on_with_by_the_next_call(tmp_path: Path, publish: Publish) -> None:
    with serving({"weights.bin": GOOD}, half) as server:
        publish(row(f"{server.address}/weights.bin", GOOD))
        with pytest.raises(WeightsError, match="ended after"):
            fetch(NAME)
        assert not (tmp_path / FOLDER / "weights.safetensors").exists()
        arrived = (tmp_path / FOLDER / "partial" / "weights.bin").stat().st_size
        assert 0.9 * len(GOOD) < arrived < len(GOOD)
        server.lie = honest
        server.asked.clear()
        check_kept(fetch(NAME))
        assert [asked.range for asked in server.asked] == [f"bytes={arrived}-"]


RANGED: dict[str, Lie] = {
    "nothing but the truth": honest,
    "cut short in the tensors": first(honest, half, half),
    "cut short in the header": first(half),
    "changed behind the header": first(
        lambda handler, n: liar.serve(handler, torch_file(99), liar.OTHER_TAG),
    ),
    "changed in the tensors": first(honest, half, liar.ranged(lambda a, n: f"bytes {a}-{n - 1}/{n}", liar.OTHER_TAG)),
    "a part of another length": first(honest, liar.ranged(lambda a, n: f"bytes {a}-{a}/{n}")),
    "a part with a shorter body": first(honest, half, liar.reset),
}


@pytest.mark.parametrize("name", RANGED)
def test_tensors_out_of_a_file(name: str, publish: Publish) -> None:
    content = torch_file()
    with serving({"model.safetensors": content}, RANGED[name]) as server:
        publish(ranged_row(f"{server.address}/model.safetensors", content))
        check_kept(fetch(NAME))
        assert all(asked.range is not None for asked in server.asked)
        asked_for = sum(1 + int(end) - int(begin) for begin, end in (span(asked.range) for asked in server.asked))
    if RANGED[name] is honest:
        assert len(server.asked) == 2
        assert asked_for < 0.2 * len(content)


def span(text: str | None) -> list[str]:
    assert text is not None
    return text.removeprefix("bytes=").split("-")


def test_a_server_without_ranges_sends_the_whole_file(publish: Publish, capsys: pytest.CaptureFixture[str]) -> None:
    content = torch_file()
    with serving({"model.safetensors": content}, liar.whole) as server:
        publish(ranged_row(f"{server.address}/model.safetensors", content, megabytes=2.5))
        check_kept(fetch(NAME))
    assert "sends no parts of files: downloading all 2.5 MB" in capsys.readouterr().err


def resized(length: int) -> bytes:
    return length.to_bytes(8, "little") + torch_file()[8:]


def reworded(old: bytes, new: bytes) -> bytes:
    assert len(old) == len(new)
    assert old in torch_file()
    return torch_file().replace(old, new)


BOMBS: dict[str, tuple[bytes, str]] = {
    "a header of 2^60 bytes": (resized(1 << 60), "header of 1152921504606846976"),
    "a header as long as the file": (resized(len(torch_file())), "no safetensors file"),
    "a header that is no JSON": (reworded(b'{"classifier', b'["classifier'), "no header of safetensors"),
    "overlapping tensors": (reworded(b'"data_offsets":[1200000,', b'"data_offsets":[1199999,'), "offsets 1199999"),
    "offsets before the file": (reworded(b'"data_offsets":[0,', b'"data_offsets":[-'.ljust(18, b"1")), "offsets"),
    "not long enough for a header": (b"1234", "no safetensors file"),
    "a web page": (PAGE, "no safetensors file"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_headers_that_lie(name: str, tmp_path: Path, publish: Publish) -> None:
    content, words = BOMBS[name]
    with serving({"model.safetensors": content}) as server:
        publish(ranged_row(f"{server.address}/model.safetensors", torch_file()))
        with pytest.raises(WeightsError, match="cannot be had") as caught:
            fetch(NAME)
    assert words in str(caught.value)
    check_empty(tmp_path / FOLDER)


def test_a_file_that_always_changes(tmp_path: Path, publish: Publish) -> None:
    content = torch_file()
    with serving({"model.safetensors": content}) as server:
        server.lie = lambda handler, n: liar.serve(handler, handler.body, f'"{n}"')
        publish(ranged_row(f"{server.address}/model.safetensors", content))
        with pytest.raises(WeightsError, match="changed on the server between two parts"):
            fetch(NAME)
    check_empty(tmp_path / FOLDER)
