"""`--report`: a page about a run or a catalogue."""

import json
from pathlib import Path

import pytest
from browser import PHONE, browser
from cli_runs import HEIGHT, WIDTH, run, save_images
from grid_runs import QUICK as GRID_QUICK
from grid_runs import grid, save_inputs
from html_pages import embedded, read

__all__ = ["browser"]

pytestmark = pytest.mark.usefixtures("unoptimised")

QUICK = ("--size", "32", "--steps", "3", "--optimizer", "adam", "--content-layers", "relu1_1")
QUICK += ("--style-layers", "relu1_1,relu2_1")
USAGE = 2


def test_the_report_of_a_run_is_written_next_to_its_image(capsys, tmp_path: Path):
    content, style = save_images(tmp_path)
    out, log = tmp_path / "<b>&.png", tmp_path / "log.jsonl"
    flags = (content, style, style, "-o", out, *QUICK, "--seed", "7", "--log", log)
    finished = run(capsys, "stylize", *flags, "--report")
    assert finished.status == 0
    assert finished.out[-1] == f"{tmp_path / '<b>&.html'}: report"
    page = read(tmp_path / "<b>&.html")
    result, *made_of = embedded(page)
    assert result.size == (32, 32 * HEIGHT // WIDTH)
    assert [image["alt"] for image in page.images()] == ["result", "content", "style 1", "style 2"]
    assert len(made_of) == 3
    assert page.texts[0] == out.name
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    row = page.texts.index("total", page.texts.index("share"))
    assert page.texts[row + 1] == f"{steps[0]['total']:.5g}"
    assert page.texts[row + 3] == f"{steps[-1]['total']:.5g}"
    assert page.texts[page.texts.index("seed") + 1] == "7"
    (command,) = [text for text in page.texts if text.startswith("jnst stylize ")]
    assert f"-o '{out}'" in command
    assert command.endswith("--report")


@pytest.mark.parametrize(
    ("command", "shown"),
    [("synthesize", ["result", "style"]), ("reconstruct", ["result", "content"]), ("stylize", ["result"])],
)
def test_reports_of_other_commands_and_with_another_name(capsys, tmp_path: Path, command: str, shown: list[str]):
    content, style = save_images(tmp_path)
    inputs = {"synthesize": (style,), "reconstruct": (content,), "stylize": (content, style, "--init", style)}[command]
    steps = ("--shape", "32x24") if command == "synthesize" else ()
    (tmp_path / "pages").mkdir()
    report = tmp_path / "pages" / "it.html"
    flags = ("-o", tmp_path / "out.png", *QUICK, *steps, "--report", report)
    assert run(capsys, command, *inputs, *flags).status == 0
    names = [image["alt"] for image in read(report).images()]
    assert names == (["result", "content", "style", "start"] if command == "stylize" else shown)
    assert not (tmp_path / "out.html").exists()


def test_the_report_of_a_catalogue(capsys, tmp_path: Path, browser):
    save_inputs(tmp_path)
    finished = grid(capsys, tmp_path, "--sweep", "style_weight=1,10", "--report")
    assert finished.status == 0
    path = tmp_path / "out" / "report.html"
    assert finished.out[0] == f"{path}: report"
    parsed = read(path)
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    files = [job["file"] for job in index["jobs"]]
    assert len(files) == 12
    assert parsed.all("img")[0]["alt"] == "sheet.jpg"
    last = index["jobs"][-1]
    assert f"c.png × y.png, style_weight 10.0; loss {last['losses']['first']:.4g}" in " ".join(parsed.texts)
    page = browser.open(path.as_uri(), viewport=PHONE)
    for number in range(13):
        page.evaluate(f"document.images[{number}].scrollIntoView()")
    page.wait_for("[...document.images].every(image => image.complete)")
    names = page.evaluate("[...document.images].map(i => decodeURIComponent(i.src.split('/').pop()))")
    assert names == ["sheet.jpg", *files]
    assert min(page.evaluate("[...document.images].map(image => image.naturalWidth)")) >= 24
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    assert page.errors() == []
    assert page.foreign_requests() == []
    page.close()


def test_the_report_of_a_catalogue_names_failures_and_can_be_written_later(capsys, tmp_path: Path):
    save_inputs(tmp_path)
    (tmp_path / "contents" / "b.png").write_bytes(b"no image")
    assert grid(capsys, tmp_path).status != 0
    finished = grid(capsys, tmp_path, "--report", tmp_path / "page.html")
    assert finished.status != 0
    page = read(tmp_path / "page.html")
    assert page.all("img")[0]["src"] == "out/sheet.jpg"
    assert "4 done, 2 failed; network mini, distilled weights." in page.texts
    assert page.texts[page.texts.index("b.png × x.png") + 1].count("b.png") == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--report", "{}/a.html", "{}/b.html"), ("a.html", "b.html", "at most one file", "in front of the flags")),
        (("--report", "{}/style.png"), ("style.png", "ends in .html")),
        (("--report", "{}/none/a.html"), ("--report", "a.html", "create it")),
        (("--report", "{}/page.html", "--log", "{}/page.html"), ("page.html", "choose another name")),
        (("--report", "{}"), ("--report", "ends in .html")),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_before_the_run(capsys, tmp_path: Path, flags, words):
    content, style = save_images(tmp_path)
    before = sorted(tmp_path.iterdir())
    finished = run(
        capsys,
        "stylize",
        content,
        style,
        "-o",
        tmp_path / "out.png",
        *QUICK,
        *(flag.format(tmp_path) for flag in flags),
    )
    assert finished.status == USAGE
    message = finished.only_error()
    assert all(word in message for word in words), message
    assert sorted(tmp_path.iterdir()) == before


def test_the_report_of_a_catalogue_cannot_replace_an_input(capsys, tmp_path: Path):
    save_inputs(tmp_path)
    page = tmp_path / "contents" / "page.html"
    page.write_bytes((tmp_path / "contents" / "a.png").read_bytes())
    flags = ("--contents", page, "--styles", tmp_path / "styles", "-o", tmp_path / "out", *GRID_QUICK)
    finished = run(capsys, "grid", *flags, "--report", page)
    assert finished.status == USAGE
    assert "page.html" in finished.only_error()
    assert not (tmp_path / "out").exists()
