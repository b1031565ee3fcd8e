"""The store of published weights: what is kept, what is checked, and what touches no network."""

import json
import os
import sys
import threading
from pathlib import Path

import liar
import numpy as np
import pytest
from liar import Liar
from published import FOLDER, NAME, Publish, keras_file, kernels, ranged_row, row, torch_file

import jnst
from jnst.errors import JnstError, WeightsError
from jnst.weights import read_weights, store
from jnst.weights.opener import Transport
from jnst.weights.registry import HEADS, SOURCES

GOOD = keras_file()


def test_the_first_use_of_a_network_downloads_it(
    server: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SOURCES, "vgg19/oxford", SOURCES[NAME])
    backbone, params = jnst.load_backbone("vgg19", pooling="avg")
    assert (backbone.name, backbone.training) == ("vgg19", "oxford")
    for name, array in kernels().items():
        layer, leaf = name.split("/")
        np.testing.assert_array_equal(params[layer][leaf], array)
    (said,) = capsys.readouterr().err.splitlines()
    for part in (
        "jnst: downloading vgg19/oxford (0.155 MB, CC-BY-4.0)",
        SOURCES[NAME].address,
        str(tmp_path / "cache"),
    ):
        assert part in said
    jnst.load_backbone("vgg19")
    jnst.load_backbone("vgg19", "oxford", offline=True)
    jnst.load_backbone(weights="vgg19/oxford")
    assert capsys.readouterr().err == ""
    assert len(server.asked) == 1


def test_names_that_mean_no_published_weights(server: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, weights in (("vgg19", "torchvison"), ("vgg16", NAME), (None, "nowhere.h5")):
        with pytest.raises(WeightsError, match="there is no such file"):
            jnst.load_backbone(name, weights)
    with pytest.raises(WeightsError, match=r"resnet18 needs a weights file: no source"):
        jnst.load_backbone("resnet18")
    with pytest.raises(JnstError, match=r"'vgg19/testt': did you mean vgg19/test"):
        store.fetch("vgg19/testt")
    # A file goes before a publisher of the same name.
    monkeypatch.chdir(tmp_path)
    Path("test").write_bytes(GOOD)
    jnst.load_backbone("vgg19", "test")
    assert server.asked == []


def test_the_second_start_reads_the_converted_copy_and_nothing_else(
    server: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.fetch(NAME)
    read = read_weights(path)
    assert (read.architecture, read.training, read.licence) == ("vgg19", "oxford", "CC-BY-4.0")
    assert read.source == "weights.bin (Keras VGG, safetensors)"
    opened: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open" and str(arguments[0]).startswith(os.environ["JNST_CACHE"]):
            opened.append(str(arguments[0]))
        assert not (watching and event.startswith("socket.")), arguments

    sys.addaudithook(watch)
    try:
        jnst.load_backbone("vgg19", "test")
    finally:
        watching = False
    assert set(opened) == {str(path)}


@pytest.mark.parametrize(
    ("value", "off"), [("1", True), ("yes", True), ("TRUE", True), ("0", False), ("", False), (" Off ", False)]
)
def test_offline_by_the_environment(
    value: str, off: bool, server: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JNST_OFFLINE", value)
    if not off:
        store.fetch(NAME)
        return
    with pytest.raises(WeightsError, match=r"vgg19/test has to be downloaded, but the network is off") as caught:
        store.fetch(NAME)
    for part in (SOURCES[NAME].address, SOURCES[NAME].hash_value, str(tmp_path / FOLDER / "weights.bin")):
        assert part in str(caught.value)
    assert server.asked == []
    # An argument goes before the environment.
    store.fetch(NAME, offline=False)
    assert len(server.asked) == 1


def test_a_file_put_there_by_hand_is_checked_and_used(server: Liar, tmp_path: Path) -> None:
    given = tmp_path / FOLDER / "weights.bin"
    given.parent.mkdir(mode=0o700, parents=True)
    given.write_bytes(GOOD[:-1] + b"!")
    with pytest.raises(WeightsError, match=r"weights.bin has sha256 .* documented is .*: get it again from http"):
        store.fetch(NAME, offline=True)
    assert sorted(file.name for file in given.parent.iterdir()) == ["lock", "weights.bin"]
    given.write_bytes(GOOD)
    read = read_weights(store.fetch(NAME, offline=True))
    np.testing.assert_array_equal(read.params["conv1_1/kernel"], kernels()["conv1_1/kernel"])
    assert given.exists()
    assert server.asked == []


@pytest.mark.parametrize("kind", ["sha256", "sha256-prefix", "md5"])
def test_every_kind_of_documented_hash_is_checked(kind: str, server: Liar, publish: Publish, tmp_path: Path) -> None:
    publish(row(f"{server.address}/weights.bin", GOOD, kind))
    store.fetch(NAME)
    server.files["weights.bin"] = GOOD[:-1] + b"!"
    with pytest.raises(WeightsError, match=rf"has {kind.removesuffix('-prefix')} .* documented is"):
        store.fetch(NAME, force=True)
    # What was there before still is.
    assert [verdict.fault for verdict in store.verify()] == [""]


def test_the_hash_seen_first_is_enforced_from_then_on(server: Liar, publish: Publish, tmp_path: Path) -> None:
    publish(row(f"{server.address}/weights.bin", GOOD, "none"))
    path = store.fetch(NAME)
    record = json.loads((tmp_path / FOLDER / "record.json").read_text())
    assert record["files"] == {"weights.bin": row("", GOOD).hash_value}
    path.unlink()
    changed = bytearray(GOOD)
    changed[-1] ^= 1
    server.files["weights.bin"] = bytes(changed)
    with pytest.raises(WeightsError, match=r"has sha256 .*, but on \d{4}-\d\d-\d\d http.*delete .*record.json"):
        store.fetch(NAME)
    assert len(server.asked) == 3
    assert not path.exists()
    (tmp_path / FOLDER / "record.json").unlink()
    assert store.fetch(NAME).exists()


@pytest.mark.parametrize("text", ["", "[]", '{"files": 3}', "{"])
def test_a_record_that_cannot_be_read(text: str, server: Liar, tmp_path: Path) -> None:
    store.fetch(NAME)
    (tmp_path / FOLDER / "record.json").write_text(text)
    with pytest.raises(WeightsError, match=r"record.json: not readable as a record of hashes: delete"):
        store.fetch(NAME, force=True)
    assert len(server.asked) == 1
    assert ["not readable" in verdict.fault for verdict in store.verify()] == [True]


def test_without_a_documented_hash_the_content_decides(server: Liar, publish: Publish, tmp_path: Path) -> None:
    publish(row(f"{server.address}/weights.bin", GOOD, "none"))
    for content, words in ((b"<html>hello", "is a web page"), (torch_file(9), "torchvision weights, expected oxford")):
        server.files["weights.bin"] = content
        with pytest.raises(WeightsError, match=rf"what came from http.* cannot be used: .*{words}"):
            store.fetch(NAME)
        assert [file.name for file in (tmp_path / FOLDER).rglob("*")] == ["lock"]


def test_the_whole_file_if_its_hash_is_to_be_checked(server: Liar, publish: Publish) -> None:
    publish(ranged_row(f"{server.address}/model.safetensors", torch_file()))
    part = store.fetch(NAME).read_bytes()
    assert len(server.asked) == 2
    whole = store.fetch(NAME, force=True, whole=True).read_bytes()
    assert [asked.range for asked in server.asked][2:] == [None]
    assert whole == part


def test_verify_finds_a_single_wrong_bit(server: Liar) -> None:
    assert store.verify() == []
    path = store.fetch(NAME)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (verdict,) = store.verify()
    assert (verdict.name, verdict.path) == (NAME, path)
    assert verdict.fault.startswith("sha256 ")
    store.fetch(NAME, force=True)
    assert [verdict.fault for verdict in store.verify()] == [""]


def test_a_damaged_copy_says_how_to_get_another(server: Liar) -> None:
    path = store.fetch(NAME)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"weights.safetensors: .*get it again; `jnst weights fetch vgg19/test --f"):
        jnst.load_backbone("vgg19", "test")


def test_heads_are_kept_as_published(server: Liar, monkeypatch: pytest.MonkeyPatch, shared: Path) -> None:
    content = (shared / "weights/lpips-heads/squeeze.pth").read_bytes()
    server.files["squeeze.pth"] = content
    published = HEADS["lpips/squeeze"]
    changed = row(f"{server.address}/squeeze.pth", content)
    assert (changed.hash_kind, changed.hash_value) == (published.hash_kind, published.hash_value)
    monkeypatch.setitem(HEADS, "lpips/squeeze", changed)
    assert store.fetch("lpips/squeeze").read_bytes() == content
    assert [verdict.fault for verdict in store.verify()] == [""]


def test_proxies_of_the_environment_are_used(server: Liar, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody listens there: only the proxy can have answered.
    publish(row("http://127.0.0.1:9/weights.bin", GOOD))
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.setenv("no_proxy", "")
    assert store.fetch(NAME).exists()
    assert [asked.path for asked in server.asked] == ["http://127.0.0.1:9/weights.bin"]


def test_plain_http_is_refused(server: Liar, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "TRANSPORT", Transport())
    with pytest.raises(WeightsError, match=r"'http://127.0.0.1:\d+/weights.bin' is not an https address"):
        store.fetch(NAME)
    assert server.asked == []


def test_threads_wait_for_each_other(server: Liar) -> None:
    server.lie = liar.first(liar.reset)
    threads = [threading.Thread(target=store.fetch, args=(NAME,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [asked.range is None for asked in server.asked] == [True, False]
