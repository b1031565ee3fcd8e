"""The programs in this folder, with few steps."""

import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jnst
from examples import (
    evaluate_folder,
    style_network,
    style_weight_gradient,
    super_resolution,
    texture_parametrisation,
    vae_lpips,
)
from jnst.errors import ImageError

pytestmark = pytest.mark.usefixtures("unoptimised")


def falls(losses: list[float] | np.ndarray, by: float) -> bool:
    """Whether the mean of the last fifth is below ``by`` times the mean of the first."""
    fifth = len(losses) // 5
    return bool(np.isfinite(losses).all() and np.mean(losses[-fifth:]) < by * np.mean(losses[:fifth]))


def test_vae_with_lpips(shared: Path) -> None:
    metric, params = jnst.load_lpips(shared / "weights/lpips-squeeze/lpips_squeeze.pt")
    assert falls(vae_lpips.train(metric, params, steps=20, batch=2), by=0.9)


def test_super_resolution() -> None:
    assert falls(super_resolution.train(steps=30, batch=1), by=0.99)


def test_texture_in_a_parametrisation() -> None:
    style = jnst.resize(jnst.demo_images()[1], (48, 48))
    texture, losses = texture_parametrisation.synthesize(style, steps=20)
    assert texture.shape == (128, 128, 3)
    assert falls(losses, by=0.7)


@pytest.mark.long
def test_style_network() -> None:
    losses, image = style_network.train(steps=20, widths=(4, 6, 8))
    assert image.shape == (128, 160, 3)
    assert falls(losses, by=0.8)


def test_style_weight_by_its_gradient() -> None:
    (first, *_, last) = style_weight_gradient.search(wanted=0.01, run_steps=2, updates=4)
    assert abs(first[1] - 0.01) > 0.002
    assert last[1] == pytest.approx(0.01, rel=1e-3)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    content, style = (jnst.resize(image, (32, 40)) for image in jnst.demo_images())
    results, contents = tmp_path / "results", tmp_path / "contents"
    for folder in (results, contents):
        folder.mkdir()
    for index, share in enumerate((0.0, 0.5)):
        jnst.save_image(contents / f"{index}.png", content)
        jnst.save_image(results / f"{index}.png", (1 - share) * content + share * style)
    jnst.save_image(tmp_path / "style.png", style)
    return results, contents, tmp_path / "style.png"


def measures() -> evaluate_folder.Measures:
    backbone, params = jnst.load_backbone()
    return {
        "SSIM": lambda result, content, style: jnst.ssim(result, content),
        "style": lambda result, content, style: jnst.style_distance(result, style, params, backbone=backbone),
    }


def test_a_folder_as_a_table(folders: tuple[Path, Path, Path]) -> None:
    table = evaluate_folder.evaluate(*folders, measures())
    assert list(table) == ["0.png", "1.png"]
    assert table["0.png"]["SSIM"] == pytest.approx(1)
    assert table["1.png"]["SSIM"] < 0.9
    assert table["1.png"]["style"] < table["0.png"]["style"]
    head, first, second, mean = evaluate_folder.format_table(table).splitlines()
    assert head.split() == ["SSIM", "style"]
    assert (first.split()[0], second.split()[0], mean.split()[0]) == ("0.png", "1.png", "mean")
    middle = (float(first.split()[1]) + float(second.split()[1])) / 2
    assert float(mean.split()[1]) == pytest.approx(middle, abs=1e-4)


def test_a_measure_that_needs_larger_images(folders: tuple[Path, Path, Path]) -> None:
    """It is left out for these images; the rest of the table stands."""
    results, contents, style = folders
    large = jnst.resize(jnst.demo_images()[0], (176, 176))
    for folder in (results, contents):
        jnst.save_image(folder / "2.png", large)
    similar: evaluate_folder.Measures = {
        "SSIM": lambda result, content, style: jnst.ssim(result, content),
        "MS-SSIM": lambda result, content, style: jnst.ms_ssim(result, content),
    }
    with pytest.warns(UserWarning, match=r"[01]\.png: no MS-SSIM: .* needs at least 176x176") as warned:
        table = evaluate_folder.evaluate(results, contents, style, similar)
    assert len(warned) == 2
    assert [np.isnan(row["MS-SSIM"]) for row in table.values()] == [True, True, False]
    assert np.isfinite([row["SSIM"] for row in table.values()]).all()
    assert float(evaluate_folder.format_table(table).split()[-1]) == pytest.approx(1, abs=1e-4)


def test_contents_that_differ_in_their_suffixes(folders: tuple[Path, Path, Path]) -> None:
    results, contents, style = folders
    similarity: evaluate_folder.Measures = {"SSIM": lambda result, content, style: jnst.ssim(result, content)}
    jnst.save_image(contents / "0.jpg", jnp.zeros((32, 40, 3)))
    assert evaluate_folder.evaluate(results, contents, style, similarity)["0.png"]["SSIM"] == pytest.approx(1)
    (results / "0.png").rename(results / "0.webp")
    with pytest.raises(ImageError, match=r"contents has 0\.jpg and 0\.png for 0\.webp: pair them"):
        evaluate_folder.evaluate(results, contents, style, similarity)


def test_wrong_number_of_arguments() -> None:
    done = subprocess.run([sys.executable, evaluate_folder.__file__, "results"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "usage: python tests/examples/evaluate_folder.py RESULTS CONTENTS STYLE\n"


def test_bad_folders(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    results, contents, style = folders
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [((empty, contents), "empty contains no images"), ((results, empty), "empty has no image named like 0.png")]
    for pair, message in cases:
        with pytest.raises(ImageError, match=message):
            evaluate_folder.evaluate(*pair, style, measures())
    (results / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(ImageError, match=r"1\.png") as caught:
        evaluate_folder.evaluate(results, contents, style, measures())
    assert "\n" not in str(caught.value)
    jnst.save_image(results / "1.png", jnp.zeros((32, 32, 3)))
    with pytest.raises(ImageError, match="32x32 and 40x32 pixels, expected the same size"):
        evaluate_folder.evaluate(results, contents, style, measures())
