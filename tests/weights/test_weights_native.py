"""jnst's own files: bits and metadata are preserved, and no file is half written."""

import dataclasses
import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import writers
from hypothesis import given, settings
from hypothesis import strategies as st

from jnst.backbones import IMAGENET, OXFORD, Preprocessing, param_shapes
from jnst.errors import ArgumentError, JnstError, ResourceError, WeightsError
from jnst.weights import Weights, read_weights, save_weights
from jnst.weights.checksum import checksum

RNG = np.random.default_rng(5)
FIRST = ("conv1_1/kernel", "conv1_1/bias", "conv1_2/kernel", "conv1_2/bias")
WEIGHTS = Weights(
    architecture="vgg19",
    params={name: RNG.standard_normal(param_shapes("vgg19")[name]).astype(np.float32) for name in FIRST},
    preprocessing=OXFORD,
    training="oxford",
    source="somewhere (Keras VGG)",
    licence="CC-BY-4.0",
    options={"padding": "reflect"},
)


def header(path: Path) -> dict[str, dict[str, str]]:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length])


def test_a_round_trip_preserves_every_bit_and_all_metadata(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", WEIGHTS)
    again = read_weights(tmp_path / "w.safetensors")
    assert dataclasses.replace(again, params={}).__dict__ == dataclasses.replace(WEIGHTS, params={}).__dict__
    assert list(again.params) == list(WEIGHTS.params)
    for name, param in WEIGHTS.params.items():
        assert again.params[name].tobytes() == param.tobytes()


def test_the_metadata_describe_the_network(tmp_path: Path) -> None:
    save_weights(tmp_path / "w", WEIGHTS)
    metadata = header(tmp_path / "w")["__metadata__"]
    assert metadata["format"] == "jnst-weights"
    assert metadata["version"] == "2"
    assert metadata["architecture"] == "vgg19"
    assert json.loads(metadata["options"]) == {"padding": "reflect"}
    assert json.loads(metadata["preprocessing"])["mean"] == [103.939, 116.779, 123.68]


def test_the_same_weights_are_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    """Sorted metadata make it so. Within one process, safetensors may keep their order by chance."""
    save_weights(tmp_path / "w", WEIGHTS)
    metadata = header(tmp_path / "w")["__metadata__"]
    assert list(metadata) == sorted(metadata)
    assert int.from_bytes((tmp_path / "w").read_bytes()[:8], "little") % 8 == 0


def test_the_checksum_is_the_documented_one(tmp_path: Path) -> None:
    save_weights(tmp_path / "w", WEIGHTS, dtype="float16")
    metadata = dict(header(tmp_path / "w")["__metadata__"])
    said = metadata.pop("sha256")
    names = sorted(WEIGHTS.params)
    tensors = ",".join(f'["{name}","float16",[{",".join(map(str, WEIGHTS.params[name].shape))}]]' for name in names)
    remarks = json.dumps(sorted(metadata.items()), separators=(",", ":"))
    digest = hashlib.sha256(f"[{remarks},[{tensors}]]".encode())
    for name in names:
        digest.update(WEIGHTS.params[name].astype("<f2").tobytes())
    assert said == digest.hexdigest()


def test_files_of_the_version_without_a_checksum_are_read(tmp_path: Path) -> None:
    save_weights(tmp_path / "w", WEIGHTS)
    metadata = dict(header(tmp_path / "w")["__metadata__"]) | {"version": "1"}
    del metadata["sha256"]
    again = read_weights(writers.write_safetensors(tmp_path / "x", WEIGHTS.params, metadata))
    assert all(again.params[name].tobytes() == param.tobytes() for name, param in WEIGHTS.params.items())


def test_float16_rounds_to_nearest(tmp_path: Path) -> None:
    save_weights(tmp_path / "w", WEIGHTS, dtype="float16")
    again = read_weights(tmp_path / "w").params
    for name, param in WEIGHTS.params.items():
        assert again[name].dtype == np.float32
        np.testing.assert_allclose(again[name], param, rtol=2.0**-11, atol=2.0**-25)
    assert header(tmp_path / "w")["conv1_1/bias"]["dtype"] == "F16"


def test_real_weights_are_preserved_bit_for_bit(shared: Path, tmp_path: Path) -> None:
    folder = shared / "weights"
    (keras,) = (folder / "squeezenet1.1-keras").glob("*.h5")
    for path in (
        keras,
        folder / "vgg19-slim16x" / "encoder_relu5_1.pth",
        folder / "lpips-squeeze" / "lpips_squeeze.pt",
    ):
        weights = read_weights(path)
        save_weights(tmp_path / "w", weights)
        again = read_weights(tmp_path / "w")
        assert (again.options, again.preprocessing) == (weights.options, weights.preprocessing)
        assert all(again.params[name].tobytes() == param.tobytes() for name, param in weights.params.items())


@settings(deadline=None, max_examples=25)
@given(
    order=st.sampled_from(["rgb", "bgr"]),
    scale=st.floats(1e-3, 1e3),
    mean=st.tuples(*[st.floats(-1e3, 1e3)] * 3),
    options=st.dictionaries(st.text(max_size=5), st.booleans() | st.text(max_size=5), max_size=2),
    remark=st.text(max_size=20),
)
def test_any_metadata_are_preserved(
    tmp_path_factory: pytest.TempPathFactory,
    order: str,
    scale: float,
    mean: tuple[float, float, float],
    options: dict[str, str | bool],
    remark: str,
) -> None:
    path = tmp_path_factory.mktemp("native") / "w"
    preprocessing = Preprocessing(order, scale, mean)  # pyright: ignore[reportArgumentType]
    weights = dataclasses.replace(WEIGHTS, preprocessing=preprocessing, options=options, source=remark, training=remark)
    save_weights(path, weights)
    again = read_weights(path)
    assert (again.preprocessing, again.options, again.source) == (preprocessing, options, remark)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("version", "3", "version 3, expected 2"),
        ("version", None, "version None"),
        ("architecture", "vgg91", "vgg91.*vgg19"),
        ("architecture", "resnet18", "`conv1_1/kernel`"),
        ("preprocessing", "{}", "preprocessing"),
        ("preprocessing", None, "'preprocessing'"),
        ("options", "[1]", "options"),
        ("options", '{"padding": 1}', "options"),
        ("options", "{", "metadata cannot be read"),
        ("licence", None, "'licence'"),
    ],
)
def test_invalid_metadata(key: str, value: str | None, match: str, tmp_path: Path) -> None:
    save_weights(tmp_path / "w", WEIGHTS)
    metadata = dict(header(tmp_path / "w")["__metadata__"])
    metadata = {name: text for name, text in (metadata | {key: value}).items() if text is not None}
    metadata["sha256"] = checksum(WEIGHTS.params, metadata)
    path = writers.write_safetensors(tmp_path / "x.safetensors", WEIGHTS.params, metadata)
    with pytest.raises(WeightsError, match=match) as caught:
        read_weights(path)
    assert str(path) in str(caught.value)


def test_bad_weights_are_not_written(tmp_path: Path) -> None:
    params = dict(WEIGHTS.params)
    infinite = params["conv1_2/bias"].copy()
    infinite[3] = np.inf
    bad = {
        "`conv1_1/bias` is missing": {name: param for name, param in params.items() if name != "conv1_1/bias"},
        "`conv9_9/bias`": params | {"conv9_9/bias": params["conv1_1/bias"]},
        "`conv1_1/kernel`": {},
        r"`conv1_1/bias` has shape \(3,\)": params | {"conv1_1/bias": np.zeros(3, np.float32)},
        "`conv1_2/bias` has 1 values": params | {"conv1_2/bias": infinite},
    }
    path = tmp_path / "w"
    for match, wrong in bad.items():
        with pytest.raises(WeightsError, match=match):
            save_weights(path, dataclasses.replace(WEIGHTS, params=wrong))
    large = params | {"conv1_1/bias": np.full(64, 1e5, np.float32)}
    with pytest.raises(WeightsError, match="`conv1_1/bias` has 64 values"):
        save_weights(path, dataclasses.replace(WEIGHTS, params=large), dtype="float16")
    with pytest.raises(JnstError, match="float32, float16"):
        save_weights(path, WEIGHTS, dtype="int8")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing_behind_and_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArgumentError, match="could not be written"):
        save_weights(tmp_path / "nowhere" / "w", WEIGHTS)
    path = tmp_path / "w"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ResourceError, match="No space left"):
        save_weights(path, WEIGHTS)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_saved_file_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "w"
    save_weights(path, WEIGHTS)
    save_weights(path, dataclasses.replace(WEIGHTS, preprocessing=IMAGENET))
    assert read_weights(path).preprocessing == IMAGENET
    assert list(tmp_path.iterdir()) == [path]
