"""Reading a report as a browser would, with the standard library's parser."""

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

from PIL import Image as Pillow

EMPTY = {"meta", "img", "br", "hr", "link", "input"}
ADDRESSES = ("src", "href", "srcset", "action", "data", "poster", "xlink:href")


class Parsed(HTMLParser):
    """A page's tags and texts; tags that are not closed, or closed in a wrong order, are an error."""

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
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self._open[-1:] != ["style"]:
            self.texts.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def addresses(self) -> list[str]:
        """Everything that a browser might ask for."""
        return [value for _, attributes in self.tags for name, value in attributes.items() if name in ADDRESSES]


def read(path: Path) -> Parsed:
    """A page that keeps to itself: no script, no style or image from elsewhere."""
    text = path.read_text("utf-8")
    page = Parsed(text)
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not re.search(r"url\(|@import", text)
    for address in page.addresses():
        assert address.startswith("data:image/jpeg;base64,") or not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:|/", address)
    assert page.all("meta")[0] == {"charset": "utf-8"}
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    return page


def embedded(page: Parsed) -> list[Pillow.Image]:
    """The images that are in the page itself."""
    sources = [image["src"].partition(";base64,") for image in page.all("img")]
    return [Pillow.open(BytesIO(base64.b64decode(data))) for kind, _, data in sources if kind == "data:image/jpeg"]
