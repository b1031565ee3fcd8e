"""The README's code runs in an empty folder: Python blocks in one namespace, `jnst` commands, all in their order."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import pytest

import jnst
from jnst.apps import demo
from jnst.apps.cli import main

pytestmark = pytest.mark.usefixtures("unoptimised")

ROOT = Path(__file__).resolve().parents[1]
SHELLS = ("bash", "sh", "console")
QUICK = {
    "stylize": ("--size", "64", "--steps", "2"),
    "grid": ("--size", "64", "--steps", "2"),
    "synthesize": ("--shape", "64x48", "--steps", "2"),
    "reconstruct": ("--size", "64", "--steps", "2"),
}
"""Flags that are added to commands that make images, after their own."""
NOT_RUN = {"pip", "git", "cd", "pytest", "ruff", "pyright", "python"}
"""First words of commands that are not run."""


class Block(NamedTuple):
    """A fenced block of code: its language, the number of its first line, and its text."""

    language: str
    line: int
    code: str


def blocks(text: str) -> Iterator[Block]:
    fence, language, begun, lines = "", "", 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        mark = re.match(r"\s*(```+|~~~+)\s*(\w*)", line)
        if not fence and mark:
            fence, language, begun, lines = mark[1], mark[2], number + 1, []
        elif fence and line.strip() == fence:
            yield Block(language, begun, "\n".join(lines) + "\n")
            fence = ""
        elif fence:
            lines.append(line)
    assert not fence, f"the block that begins at line {begun} has no end"


def commands(block: Block) -> Iterator[list[str]]:
    """The commands of a shell block, each as a list of words; of a console block only what follows a `$`."""
    text = block.code.replace("\\\n", " ")
    for line in text.splitlines():
        if block.language == "console":
            if not line.startswith("$ "):
                continue
            line = line[2:]
        words = shlex.split(line, comments=True)
        if words:
            yield words


def run_command(words: list[str]) -> None:
    if words[0] != "jnst":
        assert words[0] in NOT_RUN, f"the README names the command {words[0]!r}, which is not tested"
        return
    assert main([*words[1:], *QUICK.get(" ".join(words[1:2]), ())]) == 0, shlex.join(words)


def run_blocks(text: str, name: str = "README.md") -> dict[str, Any]:
    """Run a document's blocks in the current folder and return the namespace of its Python."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(text):
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.code, name, "exec"), namespace)
        elif block.language in SHELLS:
            for words in commands(block):
                run_command(words)
    return namespace


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty folder to run in, as if it were the project's."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_readme(project, monkeypatch):
    """With two images of the reader's own, and nothing else."""
    monkeypatch.setattr(demo, "STEPS", (2, 2))
    for name, image in zip(("photo.jpg", "painting.jpg"), jnst.demo_images(), strict=True):
        jnst.save_image(name, jnst.resize(jnp.asarray(image), (96, 128)))
    text = (ROOT / "README.md").read_text()
    languages = {block.language for block in blocks(text)}
    assert "python" in languages
    assert languages & set(SHELLS)
    assert not [block.line for block in blocks(text) if "../shared" in block.code]
    run_blocks(text)


def test_images_and_files_that_the_readme_names_exist():
    text = (ROOT / "README.md").read_text()
    named = re.findall(r"\]\((?!https:)([^)]+)\)", text) + re.findall(r"`(jnst/[\w/.]+\.\w+|tests/[\w/.]+)`", text)
    assert len(named) >= 4
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_blocks_are_found_with_their_lines():
    text = "a\n```python\nx = 1\n\ny = 2\n```\n```\nplain ```x``` text\n```\n  ~~~bash\n  ls\n  ~~~\n````\n```\n````\n"
    assert list(blocks(text)) == [
        Block("python", 3, "x = 1\n\ny = 2\n"),
        Block("", 8, "plain ```x``` text\n"),
        Block("bash", 11, "  ls\n"),
        Block("", 14, "```\n"),
    ]


def test_a_block_without_an_end_is_found():
    with pytest.raises(AssertionError, match="line 2"):
        list(blocks("```python\nx = 1\n"))


def test_commands_are_split_as_a_shell_does():
    bash = Block("bash", 1, "# a remark\njnst stylize 'a b.png' \\\n  c.png  # why\n\ngit clone x\n")
    console = Block("console", 1, "$ jnst presets\njnst  what it prints\n")
    assert list(commands(bash)) == [["jnst", "stylize", "a b.png", "c.png"], ["git", "clone", "x"]]
    assert list(commands(console)) == [["jnst", "presets"]]


def test_python_shares_a_namespace_and_jnst_runs(project, capsys):
    namespace = run_blocks(
        "```python\nx = 2\n```\n```python\ny = x + 1\nopen('made', 'w').close()\n```\n"
        "```bash\npip install jnst\njnst --version\n```\n```text\nnot code\n```\n"
    )
    assert namespace["y"] == 3
    assert (project / "made").exists()
    assert capsys.readouterr().out.startswith("jnst ")


@pytest.mark.parametrize(
    "text",
    ["```bash\nrm -rf x\n```", "```python\nassert False\n```", "```bash\njnst stylize a.png b.png -o c.png\n```"],
)
def test_what_does_not_work_is_found(project, text):
    with pytest.raises(AssertionError):
        run_blocks(text)


def test_errors_name_the_line_of_the_document(project):
    with pytest.raises(ZeroDivisionError) as caught:
        run_blocks("text\n\n```python\nx = 1\n1 / 0\n```\n")
    assert [(entry.path, entry.lineno + 1) for entry in caught.traceback][-1] == ("README.md", 5)
