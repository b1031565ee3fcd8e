"""The preview page in a browser."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from browser import DESKTOP, PHONE, Browser, Page
from made_reports import report
from PIL import Image

from jnst.apps.preview import serve

NASTY = "<img src=x onerror=alert(1)>&amp;\"'"


@pytest.fixture
def no_farewell(monkeypatch):
    """Do not let the server wait for pages that are open at its end."""
    monkeypatch.setattr("jnst.apps.preview.server.LINGER", 0.0)


def text(page: Page, name: str) -> str:
    return page.evaluate(f"document.getElementById('{name}').textContent")


def blue(shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.broadcast_to(np.asarray((0.1, 0.2, 0.9), np.float32), (*shape, 3))


def colour_of(page: Page) -> list[int]:
    """The colour in the middle of the image, as the browser shows it."""
    return page.evaluate(
        "(() => { const image = document.getElementById('image'), canvas = document.createElement('canvas'); "
        "canvas.width = image.naturalWidth; canvas.height = image.naturalHeight; "
        "const brush = canvas.getContext('2d'); brush.drawImage(image, 0, 0); "
        "return [...brush.getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data]; })()"
    )[:3]


def test_the_page_follows_a_run_to_its_end(browser: Browser, tmp_path: Path):
    with serve(title=NASTY, settings={"style layers": "relu1_1", NASTY: NASTY}) as preview:
        page = browser.open(preview.address, viewport=DESKTOP)
        page.wait_for("document.getElementById('status').textContent.startsWith('preparing')")
        assert text(page, "title") == NASTY
        assert text(page, "settings") == f"style layersrelu1_1{NASTY}{NASTY}"
        assert page.evaluate("document.getElementById('losses').hidden && document.getElementById('image').hidden")

        for step in range(1, 31):
            preview(report(step, 40, (1000 / step,), np.full((48, 64, 3), 0.5, np.float32)))
        page.wait_for("document.getElementById('step').textContent === '30 of 40'")
        page.wait_for("document.querySelectorAll('#curves path').length === 2")  # the total and its part; tv is 0
        preview(report(31, 40, (30.0,), np.full((48, 64, 3), 0.5, np.float32)))
        page.wait_for("document.getElementById('image').naturalWidth === 64")
        page.wait_for("document.getElementById('step').textContent === '31 of 40'")
        assert colour_of(page) == pytest.approx([128] * 3, abs=2)
        assert [text(page, name) for name in ("left", "spent", "size")] == ["5 s", "16 s", "64 × 48"]
        assert page.evaluate("document.getElementById('image').getBoundingClientRect().width") > 300
        page.screenshot(tmp_path / "page.png")

        for step in range(32, 41):
            preview(report(step, 40))
        preview.show(jnp.asarray(blue()))
    page.wait_for("document.getElementById('status').textContent === 'finished'")
    page.wait_for("document.getElementById('image').alt.includes('40')")
    assert colour_of(page) == pytest.approx([26, 51, 230], abs=4)
    assert text(page, "step") == "40 of 40"
    with Image.open(tmp_path / "page.png") as shot:
        assert shot.width == DESKTOP[0]
        assert len(shot.convert("RGB").getcolors(2**24) or []) > 50
    assert page.errors() == []
    assert page.foreign_requests() == []
    page.close()


@pytest.mark.usefixtures("no_farewell")
def test_curves_are_where_the_losses_are(browser: Browser):
    losses = [1000.0, 100.0, 10.0, 1.0, 0.1]
    with serve() as preview:
        preview(report(1, 5, losses))
        page = browser.open(preview.address)
        page.wait_for("document.querySelectorAll('#curves path').length === 2")
        points = page.evaluate(
            "document.querySelector('#curves path.total').getAttribute('d').slice(1).split('L')"
            ".map(point => point.split(' ').map(Number))"
        )
        labels = page.evaluate(
            "[...document.querySelectorAll('#curves text')].filter(text => text.getAttribute('text-anchor') === 'end')"
            ".map(text => [text.textContent, +text.getAttribute('y')])"
        )
        assert text(page, "legend").startswith("total0.1content/relu2_10.025tv0")
        page.close()
    across, down = np.diff(np.asarray(points), axis=0).T
    np.testing.assert_allclose(across, across[0], atol=0.11)  # equal steps, and equal ratios of losses
    np.testing.assert_allclose(down, down[0], atol=0.11)
    assert down[0] > 5
    heights = {float(label): height - 4 for label, height in labels}
    for loss, (_, height) in zip(losses, points, strict=True):
        assert heights[loss] == pytest.approx(height, abs=0.11)


@pytest.mark.usefixtures("no_farewell")
def test_a_term_that_starts_near_zero_does_not_flatten_the_others(browser: Browser):
    with serve() as preview:
        for step in range(1, 41):
            preview(report(step, 40, (1e-9 if step == 1 else 100.0 + step,)))
        page = browser.open(preview.address)
        page.wait_for("document.querySelectorAll('#curves path').length === 2")
        labels = page.evaluate("[...document.querySelectorAll('#curves text')].map(text => text.textContent)")
        assert "100" in labels
        assert not any("e-" in label for label in labels)
        inside = "(box => box.y >= 0 && box.y + box.height <= document.getElementById('curves').clientHeight)"
        assert page.evaluate(f"[...document.querySelectorAll('#curves path')].every(path => {inside}(path.getBBox()))")
        page.close()


@pytest.mark.usefixtures("no_farewell")
def test_the_page_fits_phones_and_portrait_images(browser: Browser, tmp_path: Path):
    with serve(title="a-very-long-name-" * 6 + ".png", settings={"layers": "relu1_1, " * 30}) as preview:
        preview(report(1, 40))
        preview.show(jnp.asarray(blue((96, 32))))
        page = browser.open(preview.address, viewport=PHONE, dark=True)
        page.wait_for("document.getElementById('image').naturalHeight === 96")
        for size in (PHONE, (320, 500), DESKTOP):
            page.look(size)
            assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        page.screenshot(tmp_path / "phone.png")
        assert page.errors() == []
        page.close()


@pytest.mark.usefixtures("no_farewell")
def test_the_page_notices_a_server_that_vanished_and_keeps_the_image(browser: Browser, monkeypatch):
    with serve() as preview:
        preview(report(1, 40))
        preview.show(jnp.asarray(blue()))
        page = browser.open(preview.address)
        page.wait_for("document.getElementById('image').naturalWidth === 64")
        monkeypatch.setattr("jnst.apps.preview.live.Live.end", lambda live, how: None)
    page.wait_for("document.getElementById('status').textContent.startsWith('no answer')")
    assert colour_of(page) == pytest.approx([26, 51, 230], abs=4)
    page.close()


@pytest.mark.usefixtures("no_farewell")
def test_nothing_else_runs_in_the_page(browser: Browser):
    with serve() as preview:
        page = browser.open(preview.address)
        page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
        )
        assert page.evaluate("window.ran === undefined")
        assert any("Content Security Policy" in error for error in page.errors())
        page.close()
