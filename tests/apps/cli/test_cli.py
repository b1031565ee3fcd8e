"""What each command does if nothing goes wrong."""

import dataclasses
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from cli_runs import HEIGHT, OXFORD, SHALLOW, SLIM, WIDTH, Finished, run, save_images
from PIL import Image

import jnst
from jnst.apps.cli.demo import Demo
from jnst.apps.cli.distill import Distill
from jnst.apps.cli.stylize import Stylize
from jnst.apps.cli.train import Classifier
from jnst.apps.cli.weights import Convert, Show
from jnst.backbones import BACKBONES, POOLINGS
from jnst.presets import PRESETS
from jnst.weights import read_weights

pytestmark = pytest.mark.usefixtures("unoptimised")


@pytest.fixture
def stylize(capsys, shared, tmp_path):
    """Run `jnst stylize` on two small images with the slim network, the output out.png unless named."""
    content, style = save_images(tmp_path)

    def call(*flags: object, output: str = "out.png", weights: object = shared / SLIM) -> Finished:
        given = ("--weights", weights, "--size", WIDTH, *flags)
        finished = run(capsys, "stylize", content, style, "-o", tmp_path / output, *given)
        assert finished.status == 0, finished.err
        return finished

    return call


def read_log(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def pixels(path: Path, size: int | None = None) -> np.ndarray:
    return np.asarray(jnst.load_image(path, size))


def test_installed_command_on_real_images(shared, tmp_path):
    script = shutil.which("jnst", path=Path(sys.executable).parent)
    assert script is not None
    content, style = shared / "images/content/kodim23_parrots.png", shared / "images/style/starry_night.jpg"
    layers = ("--content-layers", "relu3_2", "--style-layers", "relu1_1,relu2_1,relu3_1")
    settings = ("--weights", shared / OXFORD, *layers, "--size", "64", "--steps", "3")
    finished = subprocess.run(
        [script, "stylize", content, style, "-o", "out.png", *settings],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    with Image.open(tmp_path / "out.png") as made, Image.open(content) as source:
        assert made.size == (64, round(64 * source.height / source.width))
    assert finished.stdout.startswith(f"out.png: 64x{made.height}, 3 steps, loss ")
    assert [line.partition("  ")[0] for line in finished.stderr.splitlines() if line.startswith("step")] == [
        "step 1/3",
        "step 2/3",
        "step 3/3",
    ]


@pytest.mark.parametrize(
    ("output", "depth", "tolerance"),
    [
        ("a.png", 8, 0),
        ("a.tif", 8, 0),
        ("a.TIFF", 8, 0),
        ("a.jpg", 8, 8),
        ("a.jpeg", 8, 8),
        ("a.webp", 8, 8),
        ("a.png", 16, 0),
        ("a.tiff", 16, 0),
        ("-a b.png", 8, 0),
    ],
)
def test_every_format_keeps_the_image(stylize, tmp_path, output, depth, tolerance):
    # Without a step the result is the content image, whose 8-bit values are exact in 16 bits too (times 257).
    stylize("--steps", "0", "--bit-depth", depth, *SHALLOW, output=output)
    difference = np.abs(pixels(tmp_path / output) - pixels(tmp_path / "content.png"))
    assert difference.max() * 255 <= tolerance + 1e-4
    head = (tmp_path / output).read_bytes()
    if output.endswith("png"):
        assert head[24] == depth
    elif "tif" in output.lower():
        assert tifffile.imread(tmp_path / output).dtype == f"uint{depth}"
    else:
        assert head.startswith(b"RIFF" if "webp" in output else b"\xff\xd8")


def test_quality_changes_the_size(stylize, tmp_path):
    stylize("--steps", "0", "--quality", "30", *SHALLOW, output="low.jpg")
    stylize("--steps", "0", "--quality", "98", *SHALLOW, output="high.jpg")
    assert (tmp_path / "low.jpg").stat().st_size < (tmp_path / "high.jpg").stat().st_size


def test_log_has_each_weighted_part_and_equals_the_library_call(stylize, shared, tmp_path):
    log = tmp_path / "run.jsonl"
    stylize("--steps", "4", "--tv-weight", "0.1", *SHALLOW, "--log", log)
    lines = read_log(log)
    parts = ["content/relu2_2", "style/relu1_1", "style/relu2_1", "tv"]
    for line in lines:
        assert sorted(line) == sorted(["step", "total", "seconds", *parts])
        assert sum(line[part] for part in parts) == pytest.approx(line["total"], rel=1e-6)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)

    backbone, params = jnst.load_backbone(weights=shared / SLIM)
    settings = jnst.preset(content_layers=("relu2_2",), style_layers=("relu1_1", "relu2_1"), tv_weight=0.1)
    content, style = (jnst.load_image(tmp_path / name, WIDTH) for name in ("content.png", "style.png"))
    solution = jnst.stylize(content, style, params, backbone=backbone, preset=settings, num_steps=4)
    np.testing.assert_allclose([line["total"] for line in lines], solution.losses, rtol=1e-5)
    for part in parts:
        np.testing.assert_allclose([line[part] for line in lines], solution.parts[part], rtol=1e-5)
    np.testing.assert_allclose(pixels(tmp_path / "out.png"), solution.image, atol=0.51 / 255)


def test_log_has_a_tv_of_zero_without_the_term(stylize, tmp_path):
    stylize("--steps", "1", *SHALLOW, "--log", tmp_path / "run.jsonl")
    assert read_log(tmp_path / "run.jsonl")[0]["tv"] == 0.0


def test_init_is_the_content_the_style_or_an_image_file(stylize, tmp_path):
    other = tmp_path / "other.png"
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), (200, 100, 50), np.uint8)).save(other)
    for init, expected in (("content", "content.png"), ("style", "style.png"), (other, "other.png")):
        stylize("--steps", "0", "--init", init, *SHALLOW)
        assert (pixels(tmp_path / "out.png") == pixels(tmp_path / expected)).all()


def test_noise_follows_the_seed(stylize, tmp_path):
    for seed, output in ((1, "a.png"), (1, "b.png"), (2, "c.png")):
        stylize("--steps", "0", "--init", "noise", "--seed", seed, *SHALLOW, output=output)
    first, again, other = (pixels(tmp_path / name) for name in ("a.png", "b.png", "c.png"))
    assert (first == again).all()
    assert np.abs(first - other).mean() > 0.1
    assert np.std(first, axis=(0, 1)) == pytest.approx([0.2] * 3, rel=0.15)


@pytest.mark.parametrize(
    ("name", "flags", "changes"),
    [
        ("jnst", ("--style-weight", "3"), {"style_weight": 3.0}),
        ("neural-style-pt", ("--optimizer", "adam"), {"optimizer": jnst.Adam(1.0)}),
        ("neural-style-pt", ("--tv-weight", "0"), {"tv_weight": 0.0}),
        (
            "gatys2016",
            ("--pooling", "max", "--content-layer-weights", "2"),
            {"content_layer_weights": (2.0,), "pooling": "max"},
        ),
        ("tf-blogpost", ("--learning-rate", "2"), {"optimizer": jnst.Adam(2.0, b1=0.99, eps=0.1)}),
    ],
)
def test_presets_with_flags_that_override_them(stylize, shared, tmp_path, name, flags, changes):
    log = tmp_path / "run.jsonl"
    stylize("--preset", name, "--steps", "2", "--init", "content", *flags, *SHALLOW, "--log", log)
    layers = {"content_layers": ("relu2_2",), "style_layers": ("relu1_1", "relu2_1")}
    settings = jnst.preset(name, init="content", **layers, **changes)
    backbone, params = jnst.load_backbone(weights=shared / SLIM)
    content, style = (jnst.load_image(tmp_path / image, WIDTH) for image in ("content.png", "style.png"))
    solution = jnst.stylize(content, style, params, backbone=backbone, preset=settings, num_steps=2)
    assert len(solution.losses) == 2
    np.testing.assert_allclose([line["total"] for line in read_log(log)], solution.losses, rtol=1e-4)


def test_pooling_is_a_flag(stylize, tmp_path):
    for pooling in ("max", "avg"):
        stylize("--steps", "1", "--pooling", pooling, *SHALLOW, "--log", tmp_path / pooling)
    maximum, average = (read_log(tmp_path / pooling)[0]["style/relu2_1"] for pooling in ("max", "avg"))
    assert maximum != pytest.approx(average, rel=1e-3)


def test_a_preset_for_other_weights_causes_a_remark(stylize):
    finished = stylize("--preset", "neural-style-pt", "--steps", "0")
    remark = "preset neural-style-pt is meant for oxford weights, but these are distilled"
    assert sum(remark in line for line in finished.err) == 1
    assert not any("is meant for" in line for line in stylize("--steps", "0").err)


def test_pyramid_runs_every_size(stylize, tmp_path):
    sizes = ("--pyramid", "--min-size", "64", "--size", "128")
    finished = stylize(*sizes, "--steps", "2,1", *SHALLOW, "--log", tmp_path / "run.jsonl")
    assert finished.out[0].startswith(f"{tmp_path / 'out.png'}: 128x96, 3 steps")
    assert [line["step"] for line in read_log(tmp_path / "run.jsonl")] == [1, 2, 3]


def test_gatys2017_runs_two_sizes_of_a_given_area(stylize):
    finished = stylize("--preset", "gatys2017", "--size", "128", "--steps", "1,2", *SHALLOW)
    width, height = (int(side) for side in finished.out[0].split(": ")[1].split(",")[0].split("x"))
    assert width * height == pytest.approx(128**2, rel=0.02)
    assert width / height == pytest.approx(WIDTH / HEIGHT, rel=0.02)
    assert "3 steps" in finished.out[0]


def test_presets_and_backbones_are_all_listed(capsys):
    listed = run(capsys, "presets")
    assert [line.split()[0] for line in listed.out[::2]] == list(PRESETS)
    assert all(preset.source in line for preset, line in zip(PRESETS.values(), listed.out[1::2], strict=True))
    networks = {line.split()[0]: tuple(line.split()[1:]) for line in run(capsys, "backbones").out}
    assert networks == {name: jnst.make_backbone(name).layers for name in BACKBONES}


def test_weights_show(capsys, shared):
    finished = run(capsys, "weights", "show", shared / OXFORD)
    assert finished.status == 0
    facts = dict(line.split(maxsplit=1) for line in finished.out)
    assert facts["architecture"] == "vgg19"
    assert facts["training"] == "oxford"
    # Eight layers of 3x3 convolutions: conv1_1 to conv3_4.
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 256]
    count = sum(9 * before * after + after for before, after in itertools.pairwise(widths))
    assert facts["parameters"] == f"{count:,}"
    assert facts["conv3_4/kernel"].startswith("3x3x256x256 ")


def test_converted_weights_make_the_same_image(capsys, stylize, shared, tmp_path):
    converted, half = tmp_path / "slim.safetensors", tmp_path / "half.safetensors"
    assert run(capsys, "weights", "convert", shared / SLIM, converted).status == 0
    assert run(capsys, "weights", "convert", shared / SLIM, half, "--half").status == 0
    assert half.stat().st_size < 0.6 * converted.stat().st_size
    before, after = read_weights(shared / SLIM).params, read_weights(half).params
    assert all(np.allclose(before[name], after[name], rtol=2**-11, atol=1e-7) for name in before)
    for weights, output in ((shared / SLIM, "a.png"), (converted, "b.png")):
        stylize("--steps", "2", output=output, weights=weights)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_version(capsys):
    assert run(capsys, "--version") == Finished(0, [f"jnst {jnst.__version__}"], [])


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        (("stylize",), dataclasses.fields(Stylize)),
        (("weights", "convert"), dataclasses.fields(Convert)),
        (("weights", "show"), dataclasses.fields(Show)),
        (("train", "classifier"), dataclasses.fields(Classifier)),
        (("train", "distill"), dataclasses.fields(Distill)),
        (("train",), ()),
        (("demo",), dataclasses.fields(Demo)),
        (("presets",), ()),
        (("backbones",), ()),
        (("weights",), ()),
        ((), ()),
    ],
)
def test_help_explains_every_argument(capsys, command, fields):
    finished = run(capsys, *command, "--help")
    text = "\n".join(finished.out)
    assert finished.status == 0
    assert text.startswith(" ".join(["usage: jnst", *command]))
    assert "\n\n\n" not in text
    metavars = {"content": "CONTENT", "style": "STYLE", "source": "SRC", "destination": "DST", "file": "FILE"}
    metavars |= {"directory": "DIR"}
    for field in fields:
        name = metavars.get(field.name, f"--{field.name.replace('_', '-')}")
        first = next(at for at, line in enumerate(finished.out) if at and re.search(rf" {name}[ ,]", line))
        words = " ".join(finished.out[first : first + 2]).replace("│", " ").split()
        assert len([word for word in words if word[0].isupper() or word.islower()]) >= 3, name


def test_help_shows_the_values_of_the_preset(capsys):
    text = " ".join(" ".join(run(capsys, "stylize", "--preset", "tf-blogpost", "--help").out).split())
    assert "(default: relu5_2)" in text
    assert "(default: adam)" in text
    assert "(default: 1000.0)" in text
    assert f"--pooling {{auto,{','.join(POOLINGS)}}}" in text


def test_subcommands_are_described(capsys):
    text = " ".join(" ".join(run(capsys, "--help").out).replace("│", " ").split())
    for words in ("List the presets with their source", "inspect or convert weights files."):
        assert words in text
