"""`jnst train classifier`: the files it writes, its output and its errors."""

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from cli_runs import Finished, run, save_images
from labelled_images import save_classes

from jnst import load_backbone
from jnst.apps.cli import main
from jnst.apps.training.classifier import Settings, train_classifier
from jnst.apps.training.data import load_dataset
from jnst.backbones import IMAGENET, make_backbone
from jnst.weights import read_weights
from jnst.weights.convert import flatten

pytestmark = pytest.mark.usefixtures("unoptimised")

SHORT = ("--epochs", 2, "--size", 16, "--batch-size", 8, "--widths", "4/8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_classes(tmp_path_factory.mktemp("data"), 10)
    (folder / "dots" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing else")
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of a short run: net.safetensors, run.ckpt, run.jsonl."""
    out = tmp_path_factory.mktemp("out")
    assert main([str(argument) for argument in arguments(folder, out)]) == 0
    return out


def arguments(folder: Path, out: Path) -> list[object]:
    files = ["-o", out / "net.safetensors", "--checkpoint", out / "run.ckpt", "--log", out / "run.jsonl"]
    return ["train", "classifier", folder, *SHORT, *files]


def assert_same_weights(left: Path, right: Path) -> None:
    """Compare all bits and metadata, but not the order of the metadata in the file."""
    ours, theirs = read_weights(left), read_weights(right)
    assert dataclasses.replace(ours, params={}).__dict__ == dataclasses.replace(theirs, params={}).__dict__
    assert {name: param.tobytes() for name, param in ours.params.items()} == {
        name: param.tobytes() for name, param in theirs.params.items()
    }


def error_line(finished: Finished, status: int = 2) -> str:
    assert finished.status == status
    assert finished.out == []
    assert finished.err[-1].startswith("jnst: error: ")
    return finished.err[-1]


def test_the_weights_file_contains_the_trunk_that_the_library_trains(folder: Path, trained: Path) -> None:
    backbone = make_backbone("convnet", widths="4/8")
    expected = train_classifier(load_dataset(folder, side=32), backbone, Settings(epochs=2, size=16, batch_size=8))
    weights = read_weights(trained / "net.safetensors")
    assert weights.params.keys() == flatten(expected.params["trunk"]).keys()
    for name, param in flatten(expected.params["trunk"]).items():
        assert np.asarray(param).tobytes() == weights.params[name].tobytes()
    assert (weights.architecture, weights.training, weights.licence) == ("convnet", "classifier", "unspecified")
    assert (weights.preprocessing, weights.options) == (IMAGENET, {"widths": "4/8"})
    assert "checks, dots, gradients, stripes" in weights.source


def test_the_log_is_the_history(folder: Path, trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "run.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    parts = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds")
    assert all(list(line) == ["epoch", *parts] for line in lines)
    assert all(line["seconds"] > 0 and line["train_loss"] > 0 for line in lines)


def test_the_trained_network_loads_and_computes_features(trained: Path) -> None:
    backbone, params = load_backbone(weights=trained / "net.safetensors")
    assert backbone == make_backbone("convnet", widths="4/8", training="classifier")
    features = backbone.apply(params, jax.numpy.ones((20, 30, 3)), ("relu1_1", "relu2_1"))
    assert {layer: array.shape for layer, array in features.items()} == {"relu1_1": (20, 30, 4), "relu2_1": (10, 15, 8)}


def test_the_trained_network_stylizes(capsys: pytest.CaptureFixture[str], trained: Path, tmp_path: Path) -> None:
    content, style = save_images(tmp_path)
    layers = ("--style-layers", "relu1_1,relu2_1", "--content-layers", "relu2_1")
    weights = ("--style-weight", 1e6, "--content-weight", 1, "--weights", trained / "net.safetensors")
    log = tmp_path / "log.jsonl"
    steps = ("--size", 32, "--steps", 30, "--optimizer", "adam", "--log", log)
    finished = run(capsys, "stylize", content, style, "-o", tmp_path / "o.png", *layers, *weights, *steps)
    assert finished.status == 0
    totals = [json.loads(line)["total"] for line in log.read_text().splitlines()]
    assert totals[-1] < 0.5 * totals[0]


def test_output(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    finished = run(capsys, *arguments(folder, tmp_path), "--licence", "CC0-1.0")
    assert finished.status == 0
    (summary,) = finished.out
    assert summary.startswith(f"{tmp_path / 'net.safetensors'}: convnet 4/8, 4 classes, 2 epochs, train loss ")
    lines = [line for line in finished.err if not line.startswith("jnst: no GPU")]
    assert len(lines) == 4
    assert lines[0].startswith("jnst: skipped: ")
    assert "dots/damaged.png" in lines[0]
    assert lines[1] == "jnst: 4 classes (checks, dots, gradients, stripes), 32 training images, 8 held out"
    logged = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    for number, line in enumerate(logged, 1):
        assert lines[number + 1].startswith(
            f"epoch {number}/2  train loss {line['train_loss']:.4f} accuracy {line['train_accuracy']:.3f}  "
            f"test loss {line['test_loss']:.4f} accuracy {line['test_accuracy']:.3f}  "
        )
    assert read_weights(tmp_path / "net.safetensors").licence == "CC0-1.0"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_resumes_exactly_after_a_signal(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    trained: Path,
    tmp_path: Path,
    number: signal.Signals,
    status: int,
) -> None:
    def signalled(*args: Any, on_step: Any, **keywords: Any) -> Any:
        def step(epoch: int, *numbers: int) -> None:
            if epoch == 2:
                signal.raise_signal(number)
            on_step(epoch, *numbers)

        return train_classifier(*args, on_step=step, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr("jnst.apps.cli.train.train_classifier", signalled)
        finished = run(capsys, *arguments(folder, tmp_path))
    assert finished.status == status
    assert finished.out == []
    assert "run.ckpt" in finished.err[-1]
    assert "--resume" in finished.err[-1]
    assert not (tmp_path / "net.safetensors").exists()
    assert run(capsys, *arguments(folder, tmp_path), "--resume").status == 0
    assert_same_weights(tmp_path / "net.safetensors", trained / "net.safetensors")


def test_no_file_is_overwritten_without_force(
    capsys: pytest.CaptureFixture[str], folder: Path, trained: Path, tmp_path: Path
) -> None:
    for name, flag in {"net.safetensors": "--output", "run.ckpt": "--checkpoint", "run.jsonl": "--log"}.items():
        path = tmp_path / name
        path.write_text("precious")
        assert f"{flag} {path} exists" in error_line(run(capsys, *arguments(folder, tmp_path)))
        assert path.read_text() == "precious"
        assert list(tmp_path.iterdir()) == [path]
        path.unlink()
    (tmp_path / "net.safetensors").write_text("old")
    assert run(capsys, *arguments(folder, tmp_path), "--force").status == 0
    assert_same_weights(tmp_path / "net.safetensors", trained / "net.safetensors")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--epochs", "0"), "epochs 0: expected"),
        (("--learning-rate", "0"), "learning rate 0.0: expected"),
        (("--held-out", "1"), "held-out fraction 1.0: expected"),
        (("--widths", "16-32"), "widths '16-32' are not readable"),
        (("--size", "1"), "size 1: relu2_1 of convnet needs at least 2 pixels"),
        (("--schedule", "linear"), "linear"),
        (("--resume",), "there is no such file"),
        (("--plot", "p.txt"), "plot 'p.txt': expected a file name that ends in .png, .svg, .pdf"),
    ],
)
def test_wrong_arguments_give_one_line(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, extra: tuple[str, ...], message: str
) -> None:
    given = arguments(folder, tmp_path)
    if extra[0] in given:
        at = given.index(extra[0])
        del given[at : at + 2]
    assert message in error_line(run(capsys, *given, *extra))
    assert list(tmp_path.iterdir()) == []


def test_wrong_files_give_one_line(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    start = ("train", "classifier", folder, *SHORT, "-o")
    nowhere = tmp_path / "nowhere" / "net"
    assert f"--output {nowhere}: its folder cannot be written to" in error_line(run(capsys, *start, nowhere))
    assert f"--output {tmp_path}: is not a regular file" in error_line(run(capsys, *start, tmp_path))
    same = run(capsys, *start, tmp_path / "net", "--log", tmp_path / "net")
    assert "two of them are the same file" in error_line(same)
    assert "--resume needs the file to continue from" in error_line(run(capsys, *start, tmp_path / "net", "--resume"))
    missing = run(capsys, "train", "classifier", tmp_path / "none", *SHORT, "-o", tmp_path / "net")
    assert "No such file or directory" in error_line(missing, status=3)


def test_a_plot_without_matplotlib_is_refused_before_training(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = error_line(run(capsys, *arguments(folder, tmp_path), "--plot", tmp_path / "p.png"))
    assert "pip install 'jnst[app]'" in said
    assert list(tmp_path.iterdir()) == []


def test_the_plot_is_drawn(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    path = tmp_path / "p.png"
    assert run(capsys, *arguments(folder, tmp_path), "--plot", path).status == 0
    with Image.open(path) as image:
        assert image.size == (1080, 420)
        assert len(set(image.convert("L").tobytes())) > 20
