"""`jnst train style`, `jnst apply` and `jnst export`: the files they write, and their errors."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from cli_runs import run, save_images
from PIL import Image

import jnst
from jnst.apps.cli.apply import parse_shares
from jnst.errors import ArgumentError, ResourceError

pytestmark = pytest.mark.usefixtures("unoptimised")

NETWORK = jnst.StyleNetwork(("night", "wave"), widths=(2, 3, 4), blocks=1)
QUICK = ("--steps", 3, "--batch-size", 2, "--size", 20, "--widths", "2,3,4", "--blocks", 1, "--log-every", 2)
LAYERS = ("--content-layers", "relu1_2", "--style-layers", "relu1_1,relu1_2")


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    drawn = NETWORK.init(jax.random.key(0))
    drawn["output"]["shift"] = drawn["output"]["shift"].at[1].set(2.0)
    jnst.save_style_network(path, NETWORK, drawn)
    return path


def expected(net: Path, image: Path, weights: list[float]) -> np.ndarray:
    network, params = jnst.load_style_network(net)
    return np.asarray(network.apply(params, jnst.load_image(image), weights))


def assert_shows(path: Path, image: np.ndarray) -> None:
    with Image.open(path) as file:
        assert np.abs(np.asarray(file.convert("RGB"), np.float32) / 255 - image).max() < 0.6 / 255


def test_train_apply_and_export(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    content, style = save_images(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    content.replace(photos / "content.png")
    (photos / "broken.png").write_bytes(b"nothing")
    files = ["-o", tmp_path / "net.safetensors", "--log", tmp_path / "log.jsonl", "--sheet", tmp_path / "sheet.png"]
    finished = run(capsys, "train", "style", "--style", style, "--data", photos, *QUICK, *LAYERS, *files)
    assert finished.status == 0
    assert finished.out[0].startswith(f"{tmp_path / 'net.safetensors'}: style, ")
    assert next(line for line in finished.err if "broken.png" in line).startswith("jnst: skipped: ")
    assert "jnst: photographs: 1; styles: style" in finished.err
    assert finished.err[-1].startswith("step 3/3  total ")
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [2, 3]
    assert list(records[0]) == ["step", "total", "content", "style", "tv"]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) > 50

    network, _ = jnst.load_style_network(tmp_path / "net.safetensors")
    assert network == jnst.StyleNetwork(("style",), (2, 3, 4), 1)
    result = tmp_path / "out.png"
    finished = run(capsys, "apply", tmp_path / "net.safetensors", photos / "content.png", "-o", result)
    assert finished.status == 0
    assert_shows(result, expected(tmp_path / "net.safetensors", photos / "content.png", [1.0]))


def test_files_may_follow_one_flag_or_several(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """And two photographs of one name have a row each in the sheet."""
    content, style = save_images(tmp_path)
    photos, again = tmp_path / "photos", tmp_path / "again"
    for folder in (photos, again):
        folder.mkdir()
        (folder / "content.png").write_bytes(content.read_bytes())
    sheets = []
    for number, images in enumerate(([photos / "content.png"], [photos / "content.png", again / "content.png"])):
        styles = [part for path in (style, content) for part in ("--style", path)]
        shown = [part for path in images for part in ("--sheet-images", path)]
        sheet, net = tmp_path / f"sheet-{number}.png", tmp_path / f"{number}.safetensors"
        arguments = ("--data", photos, *QUICK, *LAYERS, *styles, *shown, "--sheet", sheet, "-o", net)
        assert run(capsys, "train", "style", *arguments).status == 0
        assert jnst.load_style_network(net)[0].styles == ("style", "content")
        with Image.open(sheet) as image:
            sheets.append(image.size)
    assert sheets[0][0] == sheets[1][0]
    assert sheets[1][1] >= sheets[0][1] + 30


def test_styles_and_mixtures(capsys: pytest.CaptureFixture[str], net: Path, tmp_path: Path) -> None:
    content, _ = save_images(tmp_path)
    cases = {"night": [1, 0], "2": [0, 1], "night:1,2:3": [0.25, 0.75], " wave:0.5 , night:0.5": [0.5, 0.5]}
    for number, (style, weights) in enumerate(cases.items()):
        path = tmp_path / f"{number}.png"
        assert run(capsys, "apply", net, content, "--style", style, "-o", path).status == 0
        assert_shows(path, expected(net, content, weights))


def test_a_folder_keeps_sizes_and_transparency(
    capsys: pytest.CaptureFixture[str], net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (23, 34, 4), np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    Image.fromarray(pixels[:21, :, :3]).save(folder / "b.jpg")
    (folder / "broken.png").write_bytes(b"nothing")
    out = tmp_path / "new" / "out"
    finished = run(capsys, "apply", net, folder, "--style", "wave", "-o", out)
    assert finished.status == 3
    assert len(finished.out) == 2
    assert len([line for line in finished.err if line.startswith("jnst: error: ") and "broken.png" in line]) == 1
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.jpg"]
    with Image.open(out / "a.png") as image:
        assert (image.size, image.mode) == ((34, 23), "RGBA")
        np.testing.assert_array_equal(np.asarray(image)[..., 3], pixels[..., 3])
    with Image.open(out / "b.jpg") as image:
        assert image.size == (34, 21)

    monkeypatch.chdir(tmp_path)
    assert run(capsys, "apply", net, folder / "a.png", "--size", 31, "--style", "wave").status == 0
    with Image.open(tmp_path / "a-wave.png") as image:
        assert max(image.size) == 31


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--style", "wafe"), 2, "no style 'wafe': did you mean wave?"),
        (("--style", "3"), 2, "style 3: expected a number from 1 to 2"),
        (("--style", "night:x"), 2, "'x' is not a number"),
        (("--style", "night,night"), 2, "occurs twice"),
        (("--style", "night,1"), 2, "night is named twice"),
        (("--style", "night:0"), 2, "one above 0"),
        (("--style", "night:-1"), 2, "at least 0"),
        (("--style", ","), 2, "expected the name of a style"),
        (("--size", "0"), 2, "--size 0"),
        (("--size", "9"), 3, "at least 20x20"),
    ],
)
def test_wrong_flags(
    capsys: pytest.CaptureFixture[str], net: Path, tmp_path: Path, arguments: tuple[str, ...], status: int, message: str
) -> None:
    content, _ = save_images(tmp_path)
    finished = run(capsys, "apply", net, content, "-o", tmp_path / "out.png", *arguments)
    assert finished.status == status
    assert message in finished.err[-1]
    assert finished.err[-1].startswith("jnst: error: ")
    assert not (tmp_path / "out.png").exists()


def test_wrong_files(capsys: pytest.CaptureFixture[str], net: Path, tmp_path: Path) -> None:
    content, style = save_images(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, status, message in (
        ((tmp_path / "none.png", "-o", tmp_path / "o.png"), 3, "does not exist"),
        ((empty, "-o", tmp_path / "o"), 3, "contains no images"),
        ((content, "-o", style), 2, "exists"),
        ((content, "-o", content, "--force"), 0, ""),
        ((content, style, "-o", style), 2, "expected a folder for several images"),
        ((content, style, "-o", tmp_path / "new.jpg"), 2, "expected a folder for several images"),
        ((content, "-o", tmp_path / "new.gif"), 2, "expected one of '.png'"),
        ((content, "-o", tmp_path / "new" / "er", "--quality", 0), 2, "`quality` is 0"),
        ((content, "-o", tmp_path / "folder"), 0, ""),
        ((), 2, "no images"),
        ((content, content, "-o", tmp_path / "o"), 2, "would both become"),
    ):
        finished = run(capsys, "apply", net, *arguments)
        assert finished.status == status, arguments
        assert not message or message in finished.err[-1]
    assert not list(tmp_path.glob("new*"))
    assert (tmp_path / "folder" / "content.png").exists()
    finished = run(capsys, "apply", style, content)
    assert finished.status == 4


def test_images_that_are_too_small_or_too_large_do_not_end_the_others(
    capsys: pytest.CaptureFixture[str], net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, side in (("a-small", 9), ("b-large", 40), ("c", 24)):
        Image.new("RGB", (side, side)).save(folder / f"{name}.png")

    def check_fits(needed: int, size: str) -> None:
        if size == "40x40":
            raise ResourceError("40x40 needs more memory than there is")

    monkeypatch.setattr("jnst.apps.cli.apply.check_fits", check_fits)
    finished = run(capsys, "apply", net, folder, "-o", tmp_path / "out")
    assert finished.status == 6
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["c.png"]
    small, large = [line for line in finished.err if line.startswith("jnst: error: ")]
    assert "a-small.png" in small
    assert "9x9" in small
    assert "b-large.png" in large

    def full(path: Path, content: bytes) -> None:
        raise ResourceError("the disk is full")

    monkeypatch.setattr("jnst.apps.cli.apply.write_atomically", full)
    (folder / "d.png").write_bytes((folder / "c.png").read_bytes())
    finished = run(capsys, "apply", net, folder, "-o", tmp_path / "other")
    assert finished.status == 6
    assert len([line for line in finished.err if "the disk is full" in line]) == 1


def test_training_flags_that_cannot_be_obeyed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, style = save_images(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    out = ("-o", tmp_path / "net.safetensors")
    small, sheet, long = tmp_path / "small.png", tmp_path.parent / "sheet.jpg", tmp_path / f"{'a' * 101}.png"
    Image.new("RGB", (18, 18)).save(small)
    for arguments, status, message in (
        ((style, "--data", empty), 3, "contains no images"),
        ((style, "--data", tmp_path / "none"), 3, "is not a folder"),
        ((tmp_path / "none.png", "--data", tmp_path), 3, "does not exist"),
        ((style, "--data", tmp_path, "--widths", "1,2"), 2, "--widths 1,2"),
        ((style, "--data", tmp_path, "--style-size", "32,32"), 2, "2 sizes for 1 styles"),
        ((style, style, "--data", tmp_path), 2, "two files are called style"),
        ((style, "--data", tmp_path, "--resume"), 2, "--checkpoint"),
        ((style, "--data", tmp_path, "--sheet", "x.gif"), 2, "--sheet"),
        ((style, "--data", tmp_path, "--style-layers", "relu9_9"), 2, "no layer 'relu9_9'"),
        ((style, "--data", tmp_path, "--content-weight", "-1"), 2, "content weight"),
        (("--data", tmp_path), 2, "--style: expected one or more images"),
        ((style, "--data", tmp_path, "--widths", "auto"), 2, "--widths auto: expected three numbers"),
        ((style, "--data", tmp_path, "--blocks", "99"), 2, "99 residual blocks"),
        ((style, "--data", tmp_path, "--backbone", "vgg20"), 2, "vgg20"),
        ((style, "--data", tmp_path, "--style-weights", "1,2"), 2, "style weights 1, 2 for 1 styles"),
        ((style, "--data", tmp_path, "--style-size", "nan"), 2, "--style-size nan: expected a number of pixels"),
        ((style, "--data", tmp_path, "--style-size", "inf"), 2, "--style-size inf: expected a number of pixels"),
        ((style, "--data", tmp_path, "--log", style, "--force"), 2, "is also a file that is read"),
        ((style, "--data", tmp_path, "--sheet", small, "--sheet-images", small, "--force"), 2, "is also a file"),
        ((style, "--data", empty, "--sheet", empty / "sheet.jpg"), 2, "among the photographs"),
        ((style, "--data", tmp_path, "--sheet", sheet, "--sheet-images", small), 3, "18x18 pixels"),
        ((style, "--data", tmp_path, "--sheet-images", style), 2, "--sheet FILE"),
        ((long, "--data", tmp_path), 2, "1 to 100 printable characters"),
    ):
        finished = run(capsys, "train", "style", *QUICK, *out, "--style", *arguments)
        assert finished.status == status, arguments
        assert message in finished.err[-1]
        assert finished.err[-1].startswith("jnst: error: ")
        reading = [line for line in finished.err if line.startswith("jnst: reading photographs in ")]
        assert bool(reading) == ("contains no images" in message or "is not a folder" in message), arguments
    assert not (tmp_path / "net.safetensors").exists()


def test_export(capsys: pytest.CaptureFixture[str], net: Path, tmp_path: Path) -> None:
    text = tmp_path / "net.mlir"
    finished = run(capsys, "export", net, "-o", text, "--style", "wave", "--size", "24x20", "--platforms", "cpu")
    assert finished.status == 0
    assert "stablehlo.convolution" in text.read_text()
    assert "tensor<?x20x24x3xf32>" in text.read_text()
    assert run(capsys, "export", net, "-o", tmp_path / "net.stablehlo").status == 0
    for arguments, message in (
        (("-o", text), "exists"),
        (("-o", tmp_path / "net.onnx"), "expected a name that ends in .jax, .stablehlo, .mlir"),
        (("-o", tmp_path / "a.mlir", "--size", "20"), "--size 20"),
        (("-o", tmp_path / "a.mlir", "--size", "20x8"), "at least 20x20"),
        (("-o", tmp_path / "a.mlir", "--size", "99999999999x20"), "at most"),
        (("-o", tmp_path / "a.mlir", "--size", f"{'9' * 5000}x20"), "expected width and height"),
        (("-o", tmp_path / "a.mlir", "--platforms"), "--platforms"),
        (("-o", tmp_path / "a.mlir", "--platforms", "cpu", "cuda"), "several need the form .jax"),
    ):
        finished = run(capsys, "export", net, *arguments)
        assert finished.status == 2
        assert message in finished.err[-1]


def test_names_may_contain_the_signs_of_a_mixture() -> None:
    network = jnst.StyleNetwork(("a:b", "1", "c,d"))
    assert parse_shares("a:b", network) == {"a:b": 1.0}
    assert parse_shares("a:b:2,1", network) == {"a:b": 2.0, "1": 1.0}
    assert parse_shares("c,d", network) == {"c,d": 1.0}
    with pytest.raises(ArgumentError):
        parse_shares("a:", network)
