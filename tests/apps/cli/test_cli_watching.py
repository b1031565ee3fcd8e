"""`jnst stylize` with a preview page, intermediate images and a film."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from cli_runs import Finished, run, save_images
from made_reports import ask, state_of
from PIL import Image

import jnst
from jnst.apps.cli.outputs import with_values
from jnst.apps.cli.stylize import Stylize
from jnst.apps.preview import Preview, serve
from jnst.errors import ResourceError
from jnst.transfer import Report

pytestmark = pytest.mark.usefixtures("unoptimised")

QUICK = ("--size", 32, "--content-layers", "relu1_1", "--style-layers", "relu1_1")


@pytest.fixture
def stylize(capsys, tmp_path):
    """Run `jnst stylize` on two small images with the embedded network and one layer."""
    content, style = save_images(tmp_path)

    def call(*flags: object, command: str = "stylize", status: int = 0) -> Finished:
        images = (content, style) if command == "stylize" else (style,)
        finished = run(capsys, command, *images, "-o", tmp_path / "out.png", *QUICK, *flags)
        assert finished.status == status, finished.err
        return finished

    return call


@pytest.fixture
def during(monkeypatch) -> Callable[[Callable[[Preview, Report], None]], list[dict[str, Any]]]:
    """Call a function with the preview after every report. Returns the arguments of each preview."""
    monkeypatch.setattr("jnst.apps.preview.server.LINGER", 0.0)
    started: list[dict[str, Any]] = []

    def arrange(act: Callable[[Preview, Report], None]) -> list[dict[str, Any]]:
        @contextlib.contextmanager
        def watched(port: int, host: str, **rest: Any) -> Iterator[Any]:
            started.append({"port": port, "host": host} | rest)
            with serve(port, host, **rest) as preview:

                class Watched:
                    address, show, wait = preview.address, staticmethod(preview.show), staticmethod(preview.wait)

                    def __call__(self, report: Report) -> None:
                        preview(report)
                        act(preview, report)

                yield Watched()

        monkeypatch.setattr("jnst.apps.cli.outputs.serve", watched)
        return started

    return arrange


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("content.png", "style.png"))


def test_everything_at_once(stylize, during, tmp_path):
    seen: list[dict[str, Any]] = []
    images: list[int] = []

    def look(preview: Preview, report: Report) -> None:
        seen.append(state_of(preview))
        images.append(ask(preview, "/image").status)

    started = during(look)
    film = tmp_path / "film.webp"
    finished = stylize("--steps", 10, "--preview", "--save-every", 4, "--animate", film)
    assert names(tmp_path) == ["film.webp", "out-04.png", "out-08.png", "out.png"]
    with Image.open(film) as made:
        assert (made.size, getattr(made, "n_frames", 1)) == ((32, 24), 4)  # steps 1, 4, 8, 10
    assert finished.out[1:] == [f"{film}: 32x24, 4 frames"]
    (address,) = (line for line in finished.err if line.startswith("jnst: preview"))
    assert address.startswith("jnst: preview at http://127.0.0.1:")
    assert [state["num_steps"] for state in seen] == [10] * 10
    assert seen[0]["names"] == ["total", "content/relu1_1", "style/relu1_1"]
    assert (images[0], images[-1]) == (404, 200)
    assert started[0]["title"] == "out.png"
    settings = started[0]["settings"]
    assert settings["images"] == "content.png, style.png"
    assert (settings["preset"], settings["network"], settings["size"]) == ("jnst", "mini", "32")
    assert (settings["num steps"], settings["style layers"]) == ("10", "relu1_1")
    assert settings["optimizer"].startswith("LBFGS: learning rate 1, memory size 20")
    assert "keep color" not in settings


def test_steps_are_counted_through_a_pyramid(stylize, tmp_path):
    flags = ("--pyramid", "--min-size", 16, "--steps", "4,2", "--save-every", 3, "--animate", tmp_path / "film.gif")
    stylize(*flags)
    # 4 steps at 16 pixels, 2 at 32.
    assert names(tmp_path) == ["film.gif", "out-3.png", "out-6.png", "out.png"]
    shapes = [jnst.load_image(tmp_path / name).shape[:2] for name in ("out-3.png", "out-6.png", "out.png")]
    assert shapes == [(12, 16), (24, 32), (24, 32)]
    with Image.open(tmp_path / "film.gif") as made:
        assert (made.size, getattr(made, "n_frames", 1)) == ((32, 24), 3)


def test_intermediate_images_are_what_a_shorter_run_would_return(stylize, tmp_path):
    stylize("--steps", 6, "--save-every", 3, "--keep-color", "luminance")
    whole = (tmp_path / "out.png").read_bytes()
    assert (tmp_path / "out-6.png").read_bytes() == whole
    on_the_way = (tmp_path / "out-3.png").read_bytes()
    stylize("--steps", 3, "--keep-color", "luminance")
    assert (tmp_path / "out.png").read_bytes() == on_the_way != whole


@pytest.mark.parametrize("command", ["synthesize", "reconstruct"])
def test_other_commands_can_do_the_same(stylize, tmp_path, command):
    layers = "--style-layers" if command == "reconstruct" else "--content-layers"
    stylize("--steps", 2, "--save-every", 1, "--animate", tmp_path / "film.gif", layers, "relu1_1", command=command)
    assert names(tmp_path) == ["film.gif", "out-1.png", "out-2.png", "out.png"]


def test_an_interrupted_run_writes_its_film_and_the_page_says_so(stylize, during, tmp_path, monkeypatch):
    ended: list[str] = []
    monkeypatch.setattr("jnst.apps.preview.live.Live.end", lambda live, how: ended.append(how))

    def interrupt(preview: Preview, report: Report) -> None:
        if report.first == 4:
            os.kill(os.getpid(), signal.SIGINT)

    during(interrupt)
    finished = stylize("--steps", 500, "--preview", "--save-every", 2, "--animate", tmp_path / "film.gif", status=130)
    assert names(tmp_path) == ["film.gif", "out-002.png", "out-004.png", "out.png"]
    assert (tmp_path / "out-004.png").read_bytes() == (tmp_path / "out.png").read_bytes()
    assert "4 steps" in finished.out[0]
    assert ended == ["stopped before the end"]


def test_intermediate_images_that_cannot_be_written_do_not_end_the_run(stylize, tmp_path, monkeypatch):
    def full(path: Path, image: object, **rest: object) -> None:
        raise ResourceError(f"{path.name}: the disk is full")

    monkeypatch.setattr("jnst.apps.animate.save_image", full)
    finished = stylize("--steps", 3, "--save-every", 1)
    assert names(tmp_path) == ["out.png"]
    complaints = [line for line in finished.err if "disk" in line]
    assert complaints == ["jnst: no more intermediate images: out-1.png: the disk is full"]


def test_addresses_that_others_can_reach_cause_a_warning(stylize, during):
    started = during(lambda preview, report: None)
    finished = stylize("--steps", 1, "--preview", "0", "--preview-host", "0.0.0.0")
    assert (started[0]["port"], started[0]["host"]) == (0, "0.0.0.0")
    assert any("everybody who can reach 0.0.0.0 can watch" in line for line in finished.err)
    assert not any("everybody" in line for line in stylize("--steps", 1, "--preview").err)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--animate", "{}/film.mp4"), ("film.mp4", ".webp, .gif")),
        (("--animate", "{}/none/film.gif"), ("--animate", "none/film.gif", "folder")),
        (("--animate", "{}/style.png"), ("style.png", ".webp, .gif")),
        (("-o", "{}/out.webp", "--animate", "{}/out.webp"), ("out.webp", "the same file")),
        (("--animate", "{}/film.gif", "--init", "{}/film.gif"), ("--animate", "film.gif", "read or written")),
        (("--save-every", "0"), ("--save-every 0", "at least 1")),
        (("--save-every", "5", "--init", "{}/out-0100.png"), ("--save-every", "out-0100.png", "--force")),
        (("--preview", "70000"), ("preview port 70000", "65535")),
        (("--preview", "--preview-host", "example.org"), ("'example.org'", "an IP address")),
    ],
)
def test_wrong_flags_are_refused_before_the_run(stylize, tmp_path, flags, words):
    for name in ("film.gif", "out-0100.png"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
    before = names(tmp_path)
    finished = stylize("--steps", 1, *(flag.format(tmp_path) for flag in flags), status=2)
    message = finished.only_error()
    assert all(word in message for word in words), message
    assert not any(line.startswith("step") for line in finished.err)
    assert names(tmp_path) == before


def test_force_lets_intermediate_images_replace_an_input(stylize, tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "out-1.png")
    stylize("--steps", 1, "--save-every", 1, "--init", tmp_path / "out-1.png", "--force")
    assert (tmp_path / "out-1.png").read_bytes() == (tmp_path / "out.png").read_bytes()


def test_a_port_in_use_is_refused_before_the_run(stylize, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        finished = stylize("--steps", 1, "--preview", taken.getsockname()[1], status=2)
    assert "it is in use: choose another, or 0" in finished.only_error()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("a b --preview", "a b --preview 0"),
        ("--preview a b", "--preview 0 a b"),
        ("--preview 8000 a", "--preview 8000 a"),
        ("--preview --steps 3", "--preview 0 --steps 3"),
        ("--preview=8000 a", "--preview=8000 a"),
        ("--preview-host ::1", "--preview-host ::1"),
        ("--seamless a.png", "--seamless both a.png"),
        ("a --seamless x -o b", "a --seamless x -o b"),
        ("a --seamless", "a --seamless both"),
        ("", ""),
    ],
)
def test_flags_that_may_stand_alone_get_a_value(args, expected):
    assert with_values(args.split()) == expected.split()


@pytest.mark.parametrize(
    ("flags", "chunk"),
    [
        ({}, None),
        ({"save_every": 10}, 10),
        ({"save_every": 100}, 25),
        ({"save_every": 7}, 7),
        ({"save_every": 29}, 1),
        ({"animate": Path("film.gif")}, 4),
        ({"animate": Path("film.gif"), "save_every": 60}, 20),
    ],
)
def test_chunks_on_accelerators_end_at_the_steps_of_images(monkeypatch, flags, chunk):
    command = Stylize(content=Path("c.png"), style=(Path("s.png"),), output=Path("out.png"), **flags)
    settings = jnst.preset("jnst", num_steps=(200,))
    assert command.chunk(settings) is None  # CPUs dispatch every step
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert command.chunk(settings) == chunk
