"""Images that cannot be written, or not as a whole: refused before the work, and what was there stays."""

import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import mutated_images_seeds as seeds
import numpy as np
import pytest
from PIL import Image

from jnst.apps.io import check_output, load_image, save_image
from jnst.errors import JnstError, ResourceError

NOISE = np.random.default_rng(3).uniform(size=(60, 90, 3)).astype(np.float32)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.webp"])
def test_a_full_disk_leaves_the_old_file(name: str, tmp_path: Path):
    """A quota in the middle of the file, which the system itself enforces."""
    path = tmp_path / name
    path.write_bytes(b"old content")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(ResourceError, match=r"a\.\w+' could not be written \(File too large\)"):
            save_image(path, NOISE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old content"
    assert list(tmp_path.iterdir()) == [path]


WRITER = """
import sys, numpy as np
from jnst.apps.io import save_image
images = [np.full((300, 400, 3), level, np.float32) for level in (0.2, 0.8)]
print("ready", flush=True)
while True:
    for image in images:
        save_image(sys.argv[1], image)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path):
    path, dice = tmp_path / "a.png", np.random.default_rng(5)
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            while not path.exists():
                time.sleep(0.01)
            time.sleep(dice.uniform(0, 0.05))
            writer.send_signal(signal.SIGKILL)
        image = np.asarray(load_image(path))
        assert np.ptp(image) == 0
        assert round(float(image[0, 0, 0]), 2) in (0.2, 0.8)
        # Killed between link and renaming, the writer leaves a second complete file.
        for left in set(tmp_path.iterdir()) - {path}:
            assert np.ptp(np.asarray(Image.open(left))) == 0
            left.unlink()


def test_nothing_of_an_input_but_its_pixels_is_written(tmp_path: Path):
    exif = seeds.exif(1)
    exif.get_ifd(0x8825)[1] = "N"  # GPS
    exif[315] = "an artist"
    Image.fromarray(seeds.RGB).save(tmp_path / "in.jpg", exif=exif, comment=b"a comment")
    image = load_image(tmp_path / "in.jpg")
    for name in ("out.jpg", "out.png", "out.webp", "out.tif"):
        save_image(tmp_path / name, image)
        data = (tmp_path / name).read_bytes()
        assert not any(words in data for words in (b"artist", b"program", b"comment", b"Exif", b"EXIF", b"eXIf"))


def test_links_are_followed(tmp_path: Path):
    """The target is replaced, or made; a link that leads nowhere else is refused."""
    (tmp_path / "to.png").symlink_to("made.png")
    check_output(tmp_path / "to.png")
    save_image(tmp_path / "to.png", NOISE)
    assert (tmp_path / "to.png").is_symlink()
    assert load_image(tmp_path / "made.png").shape == NOISE.shape
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "gone.png").symlink_to("no/such.png")
    (tmp_path / "folder.png").symlink_to(".")
    (tmp_path / "null.png").symlink_to("/dev/null")
    for name, words in [
        ("loop.png", "a link that leads back to itself"),
        ("gone.png", "cannot be written to"),
        ("folder.png", "is a directory"),
        ("null.png", "not a regular file"),
    ]:
        with pytest.raises(JnstError, match=words):
            check_output(tmp_path / name)
        assert (tmp_path / name).is_symlink()
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(JnstError, match="expected one of"):
        check_output("/dev/stdout")


def test_an_input_behind_a_link_is_not_replaced(tmp_path: Path):
    save_image(tmp_path / "in.png", NOISE)
    (tmp_path / "link.png").symlink_to("in.png")
    (tmp_path / "hard.png").hardlink_to(tmp_path / "in.png")
    for output in ("in.png", "link.png", "hard.png"):
        for given in ("in.png", "link.png", "hard.png"):
            with pytest.raises(JnstError, match="also the input"):
                check_output(tmp_path / output, inputs=[tmp_path / given])
