"""`jnst grid --ray`: what workers take of a cluster, and workers that are lost."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from grid_runs import grid, images, index_of, made
from small_images import save

from jnst.apps.catalogue import ray_workers
from jnst.apps.catalogue.ray_workers import cluster, plan_resources
from jnst.errors import ArgumentError

pytestmark = pytest.mark.usefixtures("unoptimised")

RESOURCES = 6


def nodes(*resources: dict[str, float]) -> Any:
    """A cluster of machines with these resources, and one that is gone."""
    alive = [{"Alive": True, "Resources": own} for own in resources]
    return SimpleNamespace(nodes=lambda: [*alive, {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 99.0}}])


@pytest.mark.parametrize(
    ("machines", "asked", "expected"),
    [
        ([{"CPU": 8.0}], (None, None), (0, 8, 1)),
        ([{"CPU": 8.0}, {"CPU": 16.0}, {}], (None, None), (0, 8, 3)),
        ([{"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0}], (None, None), (1, 1, 4)),
        ([{"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0}], (0.0, None), (0, 8, 2)),
        ([{"CPU": 2.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 1.0}], (0.5, 1.0), (0.5, 1, 4)),
    ],
)
def test_workers_take_what_is_asked_for(machines, asked, expected):
    assert plan_resources(nodes(*machines), *asked) == expected


def test_impossible_resources_are_refused():
    with pytest.raises(ArgumentError, match=r"--gpus-per-task 2.* 1 GPUs and 4 CPUs; 1 GPUs and 8 CPUs"):
        plan_resources(nodes({"CPU": 4.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}), 2.0, None)


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ArgumentError, match=r"pip install .*jnst\[ray\]"), cluster(None):
        pass


def test_an_address_without_a_cluster_is_refused():
    pytest.importorskip("ray")
    with pytest.raises(ArgumentError, match=r"--ray 127\.0\.0\.1:1: no cluster answers"), cluster("127.0.0.1:1"):
        pass


def test_jobs_of_lost_workers_are_done_by_others(capsys, monkeypatch: pytest.MonkeyPatch, whole: Path, again: Path):
    """One content's workers die at first, those of another one always, as if memory had run out."""
    pytest.importorskip("ray")
    save(again / "contents" / "d.png", 3)
    for name in ("a__x", "b__x"):
        (again / "out" / f"{name}.png").unlink()

    def prepare_fatal_images(*settings: object) -> None:
        import os

        from jnst.apps.catalogue import work

        load = work.load_with

        def load_or_die(path: Any, options: Any) -> Any:
            first = again / f"{path.name} was read"
            if path.name == "d.png" or (path.name == "b.png" and not first.exists()):
                first.touch()
                os._exit(1)
            return load(path, options)

        work.load_with = load_or_die

    before, style = len(made(again)), ("--styles", again / "styles" / "x.png", "--no-sheet")
    monkeypatch.setattr(ray_workers, "MAX_ATTEMPTS", 2)
    monkeypatch.setattr("jnst.apps.cli.grid._prepare_worker", prepare_fatal_images)
    finished = grid(capsys, again, *style, "--ray", "--cpus-per-task", "1")
    assert finished.status == RESOURCES
    assert "2 done, 1 skipped (done before), 1 failed" in finished.out[-1]
    assert images(again) == images(whole)
    assert sorted(made(again)[before:]) == ["a__x.png", "b__x.png", "d__x.png"]
    (failed,) = [job for job in index_of(again)["jobs"] if job["status"] == "failed"]
    assert Path(failed["content"]).name == "d.png"
    assert "lost 2 times" in failed["error"]
    (again / "contents" / "d.png").unlink()
    assert "0 done, 3 skipped" in grid(capsys, again, *style, "--ray").out[-1]
