"""Read a report with the standard library's HTML parser."""

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image as Pillow

VOID = {"meta", "img", "br", "hr", "link", "input"}
ADDRESSES = ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
JPEG, SVG = "data:image/jpeg;base64,", "data:image/svg+xml;base64,"


class Parsed(HTMLParser):
    """The tags and texts of a page. Tags that are not closed, or in a wrong order, fail the test."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self._open[-1:] != ["style"]:
            self.texts.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of all tags with a name."""
        return [attributes for name, attributes in self.tags if name == tag]

    def images(self) -> list[dict[str, str]]:
        """The attributes of all images except drawn curves."""
        return [image for image in self.all("img") if image.get("class") != "curves"]

    def plots(self) -> list[dict[str, str]]:
        """The attributes of all drawn curves."""
        return [image for image in self.all("img") if image.get("class") == "curves"]

    def curves(self) -> list[str]:
        """The names of all drawn curves."""
        return [name for plot in self.plots() for name in plot["alt"].rpartition(" over ")[0].split(", ")]

    def addresses(self) -> list[str]:
        """Everything that a browser might request."""
        return [value for _, attributes in self.tags for name, value in attributes.items() if name in ADDRESSES]


def read(path: Path) -> Parsed:
    """Parse a page, and check that it has no script, and no style or image from another host."""
    text = path.read_text("utf-8")
    page = Parsed(text)
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not re.search(r"url\(|@import", text)
    for address in page.addresses():
        assert address.startswith((JPEG, SVG)) or not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:|/", address)
    assert page.all("meta")[0] == {"charset": "utf-8"}
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    for image in page.plots():
        _check_drawing(base64.b64decode(image["src"].removeprefix(SVG)))
    return page


def embedded(page: Parsed) -> list[Pillow.Image]:
    """The photographs in the page itself."""
    sources = [image["src"] for image in page.images() if image["src"].startswith(JPEG)]
    return [Pillow.open(BytesIO(base64.b64decode(source.removeprefix(JPEG)))) for source in sources]


def _check_drawing(svg: bytes) -> None:
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    for element in root.iter():
        assert not element.tag.endswith("}script")
        for name, value in element.attrib.items():
            assert not name.rpartition("}")[2].startswith("on")
            assert not name.endswith("href") or value.startswith("#")
