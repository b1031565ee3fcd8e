"""`jnst weights list`, `fetch`, `path` and `verify`."""

from pathlib import Path

import pytest
from cli_runs import run
from fake_server import serving, status
from published import FOLDER, NAME, Publish, keras_file, row

from jnst.weights.registry import HEADS, SOURCES

GOOD = keras_file()
WEIGHTS = 4


def test_from_an_empty_cache_to_a_sound_one(
    capsys: pytest.CaptureFixture[str], publish: Publish, tmp_path: Path
) -> None:
    path = str(tmp_path / FOLDER / "weights.safetensors")
    with serving({"weights.bin": GOOD}) as server:
        publish(row(f"{server.address}/weights.bin", GOOD))
        missing = run(capsys, "weights", "path", NAME)
        assert (missing.status, missing.out) == (WEIGHTS, [])
        assert "vgg19/test is not in the cache: download it with jnst weights fetch vgg19/test" in missing.only_error()
        assert run(capsys, "weights", "verify").out == ["the cache is empty"]
        refused = run(capsys, "weights", "fetch", NAME, "--offline")
        assert refused.status == WEIGHTS
        assert "downloads are disabled" in refused.only_error()
        fetched = run(capsys, "weights", "fetch", NAME)
        assert (fetched.status, fetched.out, len(fetched.err)) == (0, [path], 1)
        again = run(capsys, "weights", "fetch", NAME, "--offline")
        assert (again.status, again.out, again.err) == (0, [path], [])
        assert len(server.requested) == 1
        assert run(capsys, "weights", "fetch", NAME, "--force").status == 0
        assert len(server.requested) == 2
    assert run(capsys, "weights", "path", NAME).out == [path]
    assert run(capsys, "weights", "verify").out == [f"vgg19/test  sound  {path}"]
    assert path in next(line for line in run(capsys, "weights", "list").out if line.startswith(NAME))


def test_verify_fails_for_a_damaged_file(capsys: pytest.CaptureFixture[str], publish: Publish, tmp_path: Path) -> None:
    with serving({"weights.bin": GOOD}) as server:
        publish(row(f"{server.address}/weights.bin", GOOD))
        run(capsys, "weights", "fetch", NAME)
    path = tmp_path / FOLDER / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    verified = run(capsys, "weights", "verify")
    assert verified.status == WEIGHTS
    assert "damaged in the cache: vgg19/test: download each again with jnst weights fetch" in verified.only_error()
    assert verified.out[0].startswith("vgg19/test  sha256 ")


def test_a_failed_download_is_reported_in_one_line(capsys: pytest.CaptureFixture[str], publish: Publish) -> None:
    with serving({"weights.bin": GOOD}, status(404)) as server:
        publish(row(f"{server.address}/weights.bin", GOOD))
        failed = run(capsys, "weights", "fetch", NAME)
    assert (failed.status, failed.out, len(failed.err)) == (WEIGHTS, [], 2)
    assert failed.err[1].startswith("jnst: error: could not download vgg19/test: the server answered 404")
    unknown = run(capsys, "weights", "fetch", "vgg20")
    assert unknown.status == 2
    assert "did you mean vgg19 or vgg16?" in unknown.only_error()


@pytest.mark.usefixtures("publish")
def test_list_shows_everything_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    listed = "\n".join(run(capsys, "weights", "list").out)
    for name, source in {**SOURCES, **HEADS}.items():
        for part in (name, source.address, source.hash_value, source.licence):
            assert part in listed
    for part in ("575 MB", "input BGR 0-255 minus 103.939 116.779 123.68", "input RGB 0-1 minus 0.485 0.456 0.406 "):
        assert part in listed
