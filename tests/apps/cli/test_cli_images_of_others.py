"""What users bring along: masks drawn on transparent layers, cut-outs, strips, tiny styles, addresses, animations."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_runs import HEIGHT, WIDTH, Finished, run, save_images
from PIL import Image

from jnst.apps.cli.stylize import _load_mask
from jnst.apps.io import load_alpha, load_image
from jnst.errors import ImageError

pytestmark = pytest.mark.usefixtures("unoptimised")

LEFT = np.zeros((HEIGHT, WIDTH), np.uint8)
LEFT[:, : WIDTH // 2] = 255


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return save_images(tmp_path)


@pytest.fixture
def stylize(capsys, files, tmp_path):
    def call(*flags: object, content: Path = files[0], styles: tuple[object, ...] = files[1:]) -> Finished:
        quick = (
            "--size",
            WIDTH,
            "--steps",
            1,
            "--no-pyramid",
            "--content-layers",
            "relu2_1",
            "--style-layers",
            "relu1_1",
        )
        return run(capsys, "stylize", content, *styles, "-o", tmp_path / "out.png", *quick, *flags)

    return call


def drawn(kind: str) -> Image.Image:
    """The left half as a mask, drawn in several ways."""
    white = np.full((HEIGHT, WIDTH), 255, np.uint8)
    match kind:
        case "grey":
            return Image.fromarray(LEFT)
        case "white on transparent white":
            return Image.fromarray(np.dstack([white, white, white, LEFT]))
        case "white on transparent black":
            return Image.fromarray(np.dstack([LEFT, LEFT, LEFT, LEFT]))
        case "grey and alpha":
            return Image.fromarray(np.dstack([white, LEFT]))
        case "palette":
            image = Image.fromarray((LEFT // 255).astype(np.uint8))
            image.putpalette([255, 255, 255, 255, 255, 255])
            image.info["transparency"] = bytes([0, 255])
            return image
    raise AssertionError(kind)


KINDS = ("grey", "white on transparent white", "white on transparent black", "grey and alpha", "palette")


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_is_zero_where_it_is_transparent(kind: str, files: tuple[Path, Path], tmp_path: Path) -> None:
    path, content = tmp_path / "mask.png", files[0]
    drawn(kind).save(path)
    np.testing.assert_allclose(_load_mask(path, load_image(content), content), LEFT / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        *[(shape, True) for shape in ((96, 128), (12, 16), (13, 17), (HEIGHT + 1, WIDTH))],
        *[(shape, False) for shape in ((WIDTH, HEIGHT), (48, 48), (36, 64), (12, 20))],
    ],
)
def test_the_proportions_of_a_mask(
    shape: tuple[int, int], fits: bool, files: tuple[Path, Path], tmp_path: Path
) -> None:
    path, content = tmp_path / "mask.png", files[0]
    Image.fromarray(np.full(shape, 255, np.uint8)).save(path)
    if fits:
        assert _load_mask(path, load_image(content), content).shape == (HEIGHT, WIDTH)
        return
    sizes = rf"mask.png' is {shape[1]}x{shape[0]} pixels, but '.*content.png', to which it belongs, {WIDTH}x{HEIGHT}"
    with pytest.raises(ImageError, match=rf"{sizes}: expected the same proportions; crop or stretch the mask$"):
        _load_mask(path, load_image(content), content)


def test_an_empty_mask_is_named(stylize, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 4), np.uint8)).save(tmp_path / "mask.png")
    finished = stylize("--mask", tmp_path / "mask.png")
    assert finished.status == 3
    assert "mask.png' is 0 everywhere, black or transparent: draw the region in white" in finished.only_error()


def test_the_result_is_as_transparent_as_the_content(stylize, files: tuple[Path, Path], tmp_path: Path) -> None:
    colours = np.asarray(Image.open(files[0]))
    Image.fromarray(np.dstack([colours, LEFT])).save(tmp_path / "cut.png")
    assert stylize(content=tmp_path / "cut.png").status == 0
    alpha = load_alpha(tmp_path / "out.png", (HEIGHT, WIDTH))
    np.testing.assert_allclose(alpha, LEFT / 255, atol=0.01)  # pyright: ignore
    assert stylize("--background", "#ff0000", content=tmp_path / "cut.png").status == 0
    with Image.open(tmp_path / "out.png") as image:
        assert image.mode == "RGB"
        corner = np.asarray(image)[HEIGHT // 2, -8] / 255
    assert corner[0] > 0.5 > corner[1]


@pytest.mark.parametrize("colour", ["reddish", "#12345", "#ff000080"])
def test_unknown_colours(stylize, colour: str) -> None:
    finished = stylize("--background", colour)
    assert finished.status == 2
    assert f"--background {colour}: expected an opaque colour, such as black or #ff8000" in finished.only_error()


@pytest.mark.parametrize("pyramid", ["--pyramid", "--no-pyramid"])
def test_a_strip_says_which_size_it_needs(stylize, tmp_path: Path, pyramid: str) -> None:
    Image.fromarray(np.full((60, 3000, 3), 99, np.uint8)).save(tmp_path / "strip.png")
    finished = stylize(pyramid, "--content-layers", "relu4_1", content=tmp_path / "strip.png")
    assert finished.status == 3
    assert f"the result would be {WIDTH}x1 pixels, but relu4_1 of mini needs at least 8x8" in finished.only_error()
    size = int(finished.only_error().partition("it needs `size` ")[2].partition(" or more")[0])
    assert 400 <= size <= 512  # 8 · 3000 / 60, and what it is after the strip was reduced to whole pixels
    assert stylize(pyramid, "--content-layers", "relu4_1", "--size", size, content=tmp_path / "strip.png").status == 0


@pytest.mark.parametrize("pyramid", ["--pyramid", "--no-pyramid"])
@pytest.mark.parametrize("shape", [(2, 3), (1, 40), (7, 7)])
def test_small_styles_are_enlarged(stylize, tmp_path: Path, pyramid: str, shape: tuple[int, int]) -> None:
    Image.fromarray(np.full((*shape, 3), 99, np.uint8)).save(tmp_path / "tiny.png")
    assert stylize(pyramid, "--content-layers", "relu4_1", styles=(tmp_path / "tiny.png",)).status == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--init", "random"), "--init random: expected content, style, noise, or an image file"),
        (("--init", "nois"), "--init nois: expected content, style, noise, or an image file (did you mean noise?)"),
    ],
)
def test_unknown_initial_images(stylize, flags: tuple[str, ...], message: str) -> None:
    finished = stylize(*flags)
    assert finished.status == 3
    assert finished.only_error() == f"jnst: error: {message}"


def test_addresses_and_lists(stylize, files: tuple[Path, Path]) -> None:
    assert "addresses are not read, download it first" in stylize(styles=("https://a.org/b.jpg",)).only_error()
    assert "separate several files by spaces" in stylize(styles=(f"{files[1]},{files[0]}",)).only_error()


def test_warnings_are_one_line(files: tuple[Path, Path], tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((20, 24, 3), level, np.uint8)) for level in (40, 90)]
    frames[0].save(tmp_path / "anim.gif", save_all=True, append_images=frames[1:])
    command = [sys.executable, "-m", "jnst", "stylize", tmp_path / "anim.gif", files[1], "-o", tmp_path / "out.png"]
    ended = subprocess.run([*command, "--steps", "0", "--size", "24", "--no-pyramid"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    lines = [line for line in ended.stderr.splitlines() if "anim.gif" in line]
    assert lines == [f"jnst: '{tmp_path}/anim.gif': it has several frames or pages: only the first is read"]
    assert all(line.startswith(("jnst: ", "step ", "compiling ")) for line in ended.stderr.splitlines())


def test_a_run_that_diverges_says_so(stylize) -> None:
    finished = stylize("--optimizer", "adam", "--learning-rate", "10000", "--steps", "6")
    assert finished.status == 0
    assert any(
        line.startswith("jnst: the loss climbed to ") and "lower the learning rate" in line for line in finished.err
    )
    finished = stylize("--optimizer", "sgd", "--learning-rate", "1e-9", "--steps", "6")
    assert any(line.startswith("jnst: the loss has not fallen, from ") for line in finished.err)
