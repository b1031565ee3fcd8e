"""Reports: they contain every image and number, escape every text, and load nothing from other hosts."""

import json
from pathlib import Path
from urllib.parse import unquote

import jax.numpy as jnp
import numpy as np
import pytest
from browser import DESKTOP, PHONE, Browser
from html_pages import embedded, read
from PIL import Image as Pillow

import jnst
from jnst.apps.report import Code, Facts, Figure, Figures, Page, Plot, Table, catalogue_page, run_page, save_page
from jnst.apps.report.page import MAX_SIDE
from jnst.errors import JnstError
from jnst.solve import Solution

HOSTILE = "</title><script>alert('1')</script><img src=x onerror=alert(2)>&amp;\"'"
BESIDE = "a #1?&'<b>ü.png"


def image(height: int = 20, width: int = 30) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x / width, y / height, 0.5 + 0 * x], axis=-1).astype(np.float32)


def hostile_page(folder: Path) -> Page:
    """Every kind of block, with texts that would do harm if they were not escaped."""
    Pillow.new("RGB", (40, 30), "red").save(folder / BESIDE)
    blocks = [
        HOSTILE,
        Figures([Figure(image(), HOSTILE), Figure(folder / BESIDE, HOSTILE)]),
        Table((HOSTILE, "number"), [(HOSTILE, 1.23456789), (None, 7)], HOSTILE),
        Plot({HOSTILE: [3.0, 2.0, 1.0], "total": [4.0, 3.0, 2.0]}, axis=HOSTILE),
        Facts({HOSTILE: HOSTILE}),
        Code(HOSTILE),
    ]
    return Page(HOSTILE, HOSTILE, [(HOSTILE, blocks)])


def test_texts_are_escaped(tmp_path: Path):
    save_page(tmp_path / "report.html", hostile_page(tmp_path))
    page = read(tmp_path / "report.html")
    # Title, heading, summary; section, paragraph; captions; caption, header, cell of the table; both of the fact; code.
    assert page.texts.count(HOSTILE) == 3 + 2 + 2 + 3 + 2 + 1
    assert [attributes["alt"] for attributes in page.images()] == [HOSTILE] * 2
    assert [attributes["alt"] for attributes in page.plots()] == [f"{HOSTILE}, total over {HOSTILE}"]
    assert {"1.2346", "7", "–"} <= set(page.texts)


def test_images_are_embedded_or_linked(tmp_path: Path):
    (tmp_path / "pages").mkdir()
    save_page(tmp_path / "pages" / "report.html", hostile_page(tmp_path))
    page = read(tmp_path / "pages" / "report.html")
    (inside,) = embedded(page)
    expected = np.round(255 * image())
    assert np.abs(np.asarray(inside).astype(float) - expected).mean() < 3
    beside = tmp_path / "pages" / unquote(page.images()[1]["src"])
    assert beside.resolve() == (tmp_path / BESIDE).resolve()


def test_large_images_are_reduced_and_odd_ones_embedded(tmp_path: Path):
    grey = Pillow.new("L", (2 * MAX_SIDE, 400), 100)
    odd = np.array([[[np.nan, -1.0, 2.0]]])
    save_page(tmp_path / "a.html", Page("a", "", [("b", [Figures([Figure(grey), Figure(odd)])])]))
    large, point = embedded(read(tmp_path / "a.html"))
    assert large.size == (MAX_SIDE, 200)
    assert grey.size == (2 * MAX_SIDE, 400)
    assert np.abs(np.asarray(point).astype(int)[0, 0] - (0, 0, 255)).max() < 6


def test_a_page_that_cannot_be_written_is_a_short_error(tmp_path: Path):
    with pytest.raises(JnstError, match=r"^'.*none/a\.html' could not be written"):
        save_page(tmp_path / "none" / "a.html", Page("a", "", []))


def solution_of(parts: dict[str, np.ndarray]) -> Solution:
    losses = np.asarray(sum(parts.values()))
    return Solution(jnst.resize(jnp.asarray(image()), (24, 36)), losses, parts, np.int32(len(losses)), np.True_)


def test_the_report_of_a_run_has_its_numbers(tmp_path: Path):
    backbone, _ = jnst.load_backbone()
    parts = {"content/relu4_1": np.array([0.0, 2.0, 1.0]), "style/relu1_1": np.array([400.0, 20.0, 3.0])}
    settings = jnst.preset("jnst", num_steps=(3,), tv_weight=0.25)
    about = {"seconds": 1.5}
    made_of = {"content": image(), "style": image(10, 10)}
    page = run_page(solution_of(parts), made_of, settings, backbone, title="t", command="jnst x 'y z'", about=about)
    save_page(tmp_path / "run.html", page)
    read_back = read(tmp_path / "run.html")
    assert [shown.size for shown in embedded(read_back)] == [(36, 24), (30, 20), (10, 10)]
    texts = read_back.texts
    start = texts.index("style/relu1_1", texts.index("share"))
    assert texts[start : start + 5] == ["style/relu1_1", "400", "3", "3", "75.0%"]
    for name, value in (("tv_weight", "0.25"), ("seconds", "1.5"), ("num_steps", "3")):
        assert texts[texts.index(name) + 1] == value
    assert texts[texts.index("jnst", texts.index("Versions")) + 1] == jnst.__version__
    assert "jnst x 'y z'" in texts
    assert read_back.curves() == ["total", "content/relu4_1", "style/relu1_1"]


def test_the_report_of_a_texture_does_not_mention_content():
    backbone, _ = jnst.load_backbone()
    parts = {"style/relu1_1": np.array([4.0, 2.0])}
    page = run_page(solution_of(parts), {}, jnst.preset("jnst"), backbone, title="t")
    (facts,) = next(blocks for heading, blocks in page.sections if heading == "Settings")
    assert isinstance(facts, Facts)
    assert not any(name.startswith("content_") for name in facts.facts)
    assert facts.facts["style_layers"] == "relu1_1, relu2_1, relu3_1, relu4_1"


def test_the_report_of_a_folder_links_to_its_images(tmp_path: Path):
    folder = tmp_path / "<made>"
    folder.mkdir()
    done = {"file": "a.png", "content": "in/a.jpg", "styles": ["s/x.jpg", "s/y.jpg"], "error": None, "seconds": 2.0}
    done |= {"changes": {"style_loss": {"class": "Gram", "power": 2}}, "losses": {"first": 4.0, "last": 1.5}}
    failed = {"file": None, "content": "in/b.jpg", "styles": ["s/x.jpg"], "error": "no image", "changes": {}}
    index = {
        "preset": "jnst",
        "settings": {"num_steps": [3, 2], "pyramid": None, "tv_weight": 0.0},
        "backbone": {"name": "vgg19", "training": "caffe"},
        "counts": {"done": 1, "failed": 1, "missing": 0},
        "jobs": [done, failed],
        "jnst": "1",
        "jax": "2",
    }
    (folder / "index.json").write_text(json.dumps(index))
    save_page(tmp_path / "page.html", catalogue_page(folder))
    page = read(tmp_path / "page.html")
    assert [image["src"] for image in page.images()] == ["%3Cmade%3E/a.png"]
    assert page.texts[1:3] == ["<made>: 2 images", "1 done, 1 failed; network vgg19, caffe weights."]
    assert "a.jpg × x.jpg + y.jpg, style_loss Gram(power=2); loss 4 to 1.5; 2.0 s" in page.texts
    assert page.texts[page.texts.index("b.jpg × x.jpg") + 1] == "no image"
    assert page.texts[page.texts.index("num_steps") + 1] == "3, 2"
    assert "pyramid" not in page.texts


@pytest.mark.parametrize("content", [None, b"{"])
def test_a_folder_without_an_index_has_no_report(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / "index.json").write_bytes(content)
    with pytest.raises(JnstError, match=r"index\.json' cannot be read .*expected the index that jnst grid writes"):
        catalogue_page(tmp_path)


@pytest.mark.parametrize(("viewport", "dark"), [(PHONE, True), (DESKTOP, False)])
def test_the_page_in_a_browser(tmp_path: Path, browser: Browser, viewport: tuple[int, int], dark: bool):
    save_page(tmp_path / "report.html", hostile_page(tmp_path))
    page = browser.open((tmp_path / "report.html").as_uri(), viewport=viewport, dark=dark)
    page.evaluate("document.images[1].scrollIntoView()")
    page.wait_for("[...document.images].every(image => image.complete)")
    photographs = "[...document.images].filter(image => !image.matches('.curves'))"
    assert page.evaluate(f"{photographs}.map(image => image.naturalWidth)") == [30, 40]
    # The text of the curves has 10 points, which are 13.3 pixels, and keeps most of that on a phone.
    scale = page.evaluate("(image => image.width / image.naturalWidth)(document.querySelector('.curves'))")
    assert scale > 0.8
    assert page.evaluate("document.title") == HOSTILE
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport[0]
    light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(value => value > 128)")
    assert light is not dark
    assert page.errors() == []
    assert page.foreign_requests() == []
    page.pdf(tmp_path / "printed.pdf")
    assert (tmp_path / "printed.pdf").read_bytes().startswith(b"%PDF")
    page.close()
