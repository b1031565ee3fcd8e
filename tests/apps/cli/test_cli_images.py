"""`jnst stylize` with several styles, masks and colours; `jnst synthesize` and `jnst reconstruct`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from cli_runs import Finished, run
from contracts import random_image, random_params
from PIL import Image
from resampling import linear

import jnst
from jnst.weights import Weights, save_weights

pytestmark = pytest.mark.usefixtures("unoptimised")
WIDTHS = "4/6"
LAYERS = ("--content-layers", "conv1_1", "--style-layers", "relu1_1")
QUICK = (*LAYERS, "--optimizer", "adam", "--learning-rate", "3", "--no-pyramid", "--size", 40, "--steps", 2)
SETTINGS = jnst.preset(
    content_layers=("conv1_1",), style_layers=("relu1_1",), optimizer=jnst.Adam(3.0), pyramid=None, num_steps=(2,)
)

Network = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """A weights file of a small network, and the network as the library's arguments."""
    backbone = jnst.make_backbone("convnet", widths=WIDTHS)
    tree = random_params(backbone)
    params = {f"{layer}/{name}": np.asarray(leaf) for layer, leaves in tree.items() for name, leaf in leaves.items()}
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(path, Weights("convnet", params, backbone.preprocessing, "test", "none", "MIT", {"widths": WIDTHS}))
    loaded, loaded_params = jnst.load_backbone(weights=path)
    return path, {"backbone": loaded, "params": loaded_params}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A content image, 40x30, two styles, and the masks of its halves."""
    left = np.repeat((np.arange(40) < 20)[None], 30, 0)
    arrays = {
        "content": random_image(1, 30, 40),
        "first": random_image(2, 40, 28),
        "second": random_image(3, 32, 40),
        "left": np.repeat(left[..., None], 3, -1),
        "right": np.repeat(~left[..., None], 3, -1),
        "top": np.repeat((np.arange(40) < 20)[:, None, None], 28, 1) * np.ones(3),
    }
    for name, array in arrays.items():
        Image.fromarray(np.round(255 * array).astype(np.uint8)).save(tmp_path / f"{name}.png")
    return {name: tmp_path / f"{name}.png" for name in arrays}


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], network: Network, tmp_path: Path) -> Callable[..., Finished]:
    """Run a command with the small network and a log; the output is out.png."""

    def call(name: str, *args: object, status: int = 0) -> Finished:
        ends = ("-o", tmp_path / "out.png", "--weights", network[0], "--log", tmp_path / "run.jsonl")
        finished = run(capsys, name, *args, *ends)
        assert finished.status == status, finished.err
        return finished

    return call


@pytest.fixture
def unlike(tmp_path: Path) -> Callable[[jnst.Solution], list[str]]:
    """In what the last command differs from the library: losses, parts, image."""

    def compare(solution: jnst.Solution) -> list[str]:
        lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
        losses, image = np.asarray([line["total"] for line in lines]), load(tmp_path / "out.png")
        parts = {name for name in lines[0] if "/" in name}
        equal = {
            "losses": losses.shape == solution.losses.shape and np.allclose(losses, solution.losses, rtol=1e-4, atol=0),
            "parts": parts == set(solution.parts),
            "image": image.shape == solution.image.shape
            and np.allclose(image, solution.image, rtol=1e-7, atol=2 / 255),
        }
        return [name for name, is_equal in equal.items() if not is_equal]

    return compare


def load(path: Path, size: int | None = None) -> Any:
    return jnst.load_image(path, size)


def loaded(files: dict[str, Path], *names: str) -> list[Any]:
    return [load(files[name], 40) for name in names]


def test_several_styles_with_weights(command: Any, unlike: Any, network: Network, files: dict[str, Path]) -> None:
    finished = command("stylize", files["content"], files["first"], files["second"], "--style-weights", "1,3", *QUICK)
    assert finished.out[0].startswith(f"{files['content'].parent / 'out.png'}: 40x30, 2 steps, loss ")
    content, *styles = loaded(files, "content", "first", "second")
    assert not unlike(jnst.stylize(content, styles, preset=SETTINGS, style_weights=(1, 3), **network[1]))


def test_masks_and_style_masks(command: Any, unlike: Any, network: Network, files: dict[str, Path]) -> None:
    masks = ("--mask", files["left"], files["right"])
    command("stylize", files["content"], files["first"], files["second"], *masks, *QUICK)
    content, *styles = loaded(files, "content", "first", "second")
    left = (np.indices((30, 40))[1] < 20).astype(np.float32)
    solution = jnst.stylize(content, styles, preset=SETTINGS, masks=[left, 1 - left], **network[1])
    assert set(solution.parts) == {"content/conv1_1", "style/relu1_1/1", "style/relu1_1/2"}
    assert not unlike(solution)

    command("stylize", files["content"], files["first"], "--style-mask", files["top"], *QUICK)
    top = (np.indices((40, 28))[0] < 20).astype(np.float32)
    assert not unlike(jnst.stylize(content, styles[0], preset=SETTINGS, style_masks=[top], **network[1]))


def test_a_mask_of_another_size_than_the_image(
    command: Any, unlike: Any, network: Network, files: dict[str, Path]
) -> None:
    """The image is reduced to 20x15, and the mask with it."""
    command("stylize", files["content"], files["first"], "--mask", files["left"], *QUICK, "--size", 20)
    content, style = (load(files[name], 20) for name in ("content", "first"))
    mask: Any = linear((np.indices((30, 40))[1] < 20).astype(float), 15, 20).astype(np.float32)
    assert not unlike(jnst.stylize(content, style, preset=SETTINGS, masks=[mask], **network[1]))


@pytest.mark.parametrize("keep", ["luminance", "match"])
def test_keeping_colours(command: Any, unlike: Any, network: Network, files: dict[str, Path], keep: str) -> None:
    command("stylize", files["content"], files["first"], "--keep-color", keep, *QUICK)
    content, style = loaded(files, "content", "first")
    assert not unlike(jnst.stylize(content, style, preset=SETTINGS, keep_color=keep, **network[1]))


def test_another_style_statistic(command: Any, unlike: Any, network: Network, files: dict[str, Path]) -> None:
    command("stylize", files["content"], files["first"], "--style-statistic", "mean-std", *QUICK)
    content, style = loaded(files, "content", "first")
    settings = jnst.preset(SETTINGS, style_statistic="mean-std")
    assert not unlike(jnst.stylize(content, style, preset=settings, **network[1]))


def test_the_style_scale_with_one_size(command: Any, unlike: Any, network: Network, files: dict[str, Path]) -> None:
    """The style is loaded at twice the size asked for, once."""
    command("stylize", files["content"], files["first"], "--style-scale", 2, *QUICK, "--size", 20)
    assert not unlike(jnst.stylize(load(files["content"], 20), load(files["first"], 40), preset=SETTINGS, **network[1]))


def test_the_style_scale_with_a_pyramid(command: Any, unlike: Any, network: Network, files: dict[str, Path]) -> None:
    """Each size is made from the originals, 40 pixels: 10x7 beside a style of 20, 20x15 beside one of 40."""
    pyramid = ("--pyramid", "--min-size", 10)
    command("stylize", files["content"], files["first"], "--style-scale", 2, *QUICK, "--size", 20, *pyramid)
    settings = jnst.preset(SETTINGS, pyramid=jnst.Pyramid(factor=2.0, min_size=10), style_scale=2.0)
    solution = jnst.stylize(load(files["content"]), load(files["first"]), size=20, preset=settings, **network[1])
    assert len(solution.losses) == 4
    assert not unlike(solution)


def test_a_texture(command: Any, unlike: Any, network: Network, files: dict[str, Path]) -> None:
    """WIDTHxHEIGHT, from noise that depends on the seed."""
    finished = command("synthesize", files["first"], "--shape", "40x24", "--seed", 5, *QUICK)
    assert ": 40x24, 2 steps" in finished.out[0]
    given = {"preset": SETTINGS, "key": jax.random.key(5), **network[1]}
    assert not unlike(jnst.synthesize(load(files["first"], 40), (24, 40), **given))


def test_a_texture_of_the_styles_proportions(
    command: Any, unlike: Any, network: Network, files: dict[str, Path]
) -> None:
    """30 pixels high, from a style of 60; of two styles, from the second, too."""
    scaled = ("--style-scale", 2, *QUICK, "--size", 30)
    finished = command("synthesize", files["first"], files["second"], "--style-weights", "0,1", *scaled)
    assert ": 21x30, 2 steps" in finished.out[0]
    assert not unlike(jnst.synthesize(load(files["second"], 60), (30, 21), preset=SETTINGS, **network[1]))


def test_a_reconstruction(command: Any, unlike: Any, network: Network, files: dict[str, Path]) -> None:
    command("reconstruct", files["content"], *QUICK, "--content-layers", "relu1_1")
    content = load(files["content"], 40)
    assert not unlike(jnst.reconstruct(content, ["relu1_1"], preset=SETTINGS, **network[1]))


def test_another_optimizer_ignores_the_presets_last_learning_rate(command: Any, files: dict[str, Path]) -> None:
    """A line search chooses its step length at the last size, too."""
    layers = ("--content-layers", "image,relu1_1", "--style-layers", "image,relu1_1")
    given = ("--preset", "strotss", "--optimizer", "lbfgs-zoom", *layers, "--size", 20, "--min-size", 20, "--steps", 0)
    assert command("stylize", files["content"], files["first"], *given).status == 0
    refused = command("stylize", files["content"], files["first"], *given, "--learning-rate", "1e-3", status=2)
    assert "learning rate 0.001" in refused.only_error()


@pytest.mark.parametrize(
    ("name", "styles", "flags", "words"),
    [
        ("stylize", 2, ("--mask", "@left"), ("--mask", "1 files for 2 styles")),
        ("stylize", 1, ("--style-mask", "@top", "@top"), ("--style-mask", "2 files for 1 styles")),
        ("stylize", 2, ("--style-weights", "1"), ("style_weights (1.0,)", "2 styles")),
        ("stylize", 1, ("--style-weights", "0"), ("not all of them 0",)),
        ("stylize", 1, ("--style-weights", "a"), ("--style-weights",)),
        ("stylize", 1, ("--keep-color", "luminence"), ("luminence", "did you mean luminance")),
        ("stylize", 1, ("--style-statistic", "gramm"), ("gramm", "did you mean gram")),
        ("stylize", 1, ("--style-scale", "0"), ("0",)),
        ("stylize", 1, ("--seed", "-1"), ("--seed -1", "from 0 to 4294967295")),
        ("synthesize", 1, ("--shape", "40"), ("--shape 40", "WIDTHxHEIGHT", "640x480")),
        ("synthesize", 1, ("--shape", "0x24"), ("--shape 0x24", "WIDTHxHEIGHT")),
        ("synthesize", 1, ("--shape", "40x24x3"), ("--shape 40x24x3", "WIDTHxHEIGHT")),
        ("synthesize", 1, ("--init", "content"), ("init 'content'", "style, noise")),
        ("reconstruct", 0, ("--init", "style"), ("init 'style'", "content, noise")),
    ],
)
def test_usage(
    command: Any, files: dict[str, Path], tmp_path: Path, name: str, styles: int, flags: tuple[str, ...], words: Any
) -> None:
    images = [] if name == "synthesize" else [files["content"]]
    images += [files["first"], files["second"]][:styles]
    message = command(name, *images, *QUICK, *(files.get(flag[1:], flag) for flag in flags), status=2).only_error()
    assert all(word in message for word in words), message
    assert not (tmp_path / "out.png").exists()


def test_missing_images_and_overwritten_inputs(command: Any, files: dict[str, Path], tmp_path: Path) -> None:
    none, black, out = (tmp_path / f"{name}.png" for name in ("none", "black", "out"))
    Image.new("L", (40, 30)).save(black)

    def message(*arguments: object, status: int) -> str:
        return command("stylize", files["content"], files["first"], *arguments, *QUICK, status=status).only_error()

    assert "none.png" in message(none, status=3)
    assert "none.png" in message("--mask", none, status=3)
    assert "0 everywhere" in message("--mask", black, status=3)
    black.rename(out)
    assert "force" in message("--mask", out, status=2)
