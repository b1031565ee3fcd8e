"""The benchmark of the first image: which processes run in which order, and what they report."""

from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import first_image
from benchmarks.first_image import Command, Wait


def test_checkouts_take_turns_and_are_compared_pair_by_pair(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[str] = []

    def run(arguments: tuple[str, ...], folder: Path, scratch: Path) -> Wait:
        started.append(f"{folder.name} {arguments[0]}")
        return Wait(1.0, 2.0, 0.5, 3) if folder == tmp_path else Wait(2.0, 8.0, 4.0, 9)

    monkeypatch.setattr(first_image, "run", run)
    monkeypatch.setattr(first_image, "ROOT", tmp_path)
    monkeypatch.setattr(first_image, "describe_commit", lambda folder: "commit")
    command = Command("default", ("first",), ("other",), {"peer": ("-c", "print('12 1.5'); print('end')")})
    monkeypatch.setattr(first_image, "commands", lambda *_: [command])
    found = first_image.measure(Namespace(against=Path("old"), rounds=2))
    mine = [f"{tmp_path.name} {way}" for way in ("first", "first", "other")]
    assert started == [*mine, "old first", "old first", *mine]
    (row,) = found["commands"]
    ways = ("cold", "again", "other style")
    against = {way: row["ratios"][f"this, {way} / against, cold"]["samples"] for way in ways}
    assert against == {way: [0.25, 0.25] for way in ways}
    peer = row["waits"]["peer, cold"]
    assert 0 < peer["first_step"]["median"] < peer["image"]["median"] < 5
    assert len(row["ratios"]) == 6
    assert row["waits"]["against, cold"]["programs"]["median"] == 9
    assert len(first_image.plot(found).axes) == 1


@pytest.mark.usefixtures("unoptimised")
def test_a_command_in_its_own_process(tmp_path: Path) -> None:
    """A stand-in for jnst that compiles one program, and whose first step is seen before it ends."""
    package = tmp_path / "jnst" / "apps" / "cli"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    (package / "__init__.py").write_text(
        "import sys, time, jax\n"
        "def main():\n"
        "    jax.jit(lambda x: x + 1)(1.0)\n"
        "    print('step 1/1', file=sys.stderr, flush=True)\n"
        "    time.sleep(0.5)\n"
        "    return 0 if 'good' in sys.argv else 3\n"
    )
    wait = first_image.run(["good"], tmp_path, tmp_path)
    assert wait.programs == 1
    assert 0 < wait.compile_seconds < wait.first_step
    assert wait.first_step + 0.4 < wait.image
    with pytest.raises(RuntimeError, match=r"bad .* ended with 3"):
        first_image.run(["bad"], tmp_path, tmp_path)


def test_images_are_needed() -> None:
    options = Namespace(commands=["default"], shared=None, sizes=[512], weights=None)
    with pytest.raises(SystemExit, match="--shared"):
        list(first_image.commands(options, Path()))


def test_weights_are_needed_where_programs_are_compared(tmp_path: Path) -> None:
    options = Namespace(commands=["vgg19"], shared=tmp_path, sizes=[512], weights=None)
    with pytest.raises(SystemExit, match="--weights"):
        list(first_image.commands(options, Path()))
