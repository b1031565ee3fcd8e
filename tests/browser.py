"""A headless Chromium for tests of pages, driven through its DevTools protocol over a pipe: no driver, no open port.

A folder's conftest.py provides the fixture with `from browser import browser` and `__all__ = ["browser"]`. In a test:

    page = browser.open(url, viewport=PHONE)      # file:// or http://127.0.0.1:port
    page.wait_for("document.images.length > 0")
    assert page.evaluate("document.title") == "jnst"
    assert page.errors() == [] and page.foreign_requests() == []
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"),
    *("--no-default-browser-check", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-extensions", "--disable-default-apps", "--hide-scrollbars", "--mute-audio"),
    "--remote-debugging-pipe",
)
PHONE, DESKTOP = (390, 844), (1280, 800)
"""Width and height of a window in CSS pixels."""
LAUNCH = (
    "from os import *; from sys import argv; dup2(int(argv[1]), 3); dup2(int(argv[2]), 4); execv(argv[3], argv[3:])"
)
"""Chromium reads commands from file descriptor 3 and writes to 4. A small program sets these up, so that this process,
which has threads, need not run code after a fork."""


class Browser:
    """A Chromium with its own profile folder."""

    def __init__(self, program: str, folder: Path):
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        # Above 4, so that moving one into its place does not close the other.
        ends = [_high(commands), _high(answers)]
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", LAUNCH, *map(str, ends), program, *FLAGS, f"--user-data-dir={folder}/profile"],
                pass_fds=ends,
                stdout=log,
                stderr=log,
            )
        for end in ends:
            os.close(end)
        self._number, self._unread, self._events = 0, b"", []

    def open(self, url: str, *, viewport: tuple[int, int] = DESKTOP, dark: bool = False) -> "Page":
        """Load a page in a new tab."""
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        page = Page(self, target, self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        page.look(viewport, dark=dark)
        page.load(url)
        return page

    def command(self, method: str, session: str | None = None, seconds: float = 30, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer. Events that arrive in between are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + seconds
        while (answer := self._receive(end)).get("id") != self._number:
            self._events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def events(self, session: str) -> list[dict[str, Any]]:
        """All events of a tab so far."""
        self.command("Target.getTargets")
        return [event for event in self._events if event.get("sessionId") == session]

    def _receive(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._unread:
            readable, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            data = os.read(self._answers, 1 << 20) if readable else b""
            if not data:
                problem = "ended" if readable else "does not answer"
                raise RuntimeError(f"Chromium {problem}: {self._log.read_text(errors='replace')[-2000:]}")
            self._unread += data
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)

    def close(self) -> None:
        """Stop the process."""
        for end in (self._commands, self._answers):
            os.close(end)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Page:
    """A tab."""

    def __init__(self, browser: Browser, target: str, session: str):
        self._browser, self._target, self._session = browser, target, session
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._command(f"{domain}.enable")

    def _command(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.command(method, self._session, **params)

    def load(self, url: str) -> None:
        """Load a page, and wait until it and its images are complete."""
        fault = self._command("Page.navigate", url=url).get("errorText")
        if fault:
            raise RuntimeError(f"{url}: {fault}")
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def look(self, viewport: tuple[int, int] = DESKTOP, *, dark: bool = False) -> None:
        """Set the width and height of the window in CSS pixels, and whether the user prefers dark pages."""
        width, height = viewport
        self._command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._command("Emulation.setEmulatedMedia", features=[scheme])

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, or of its promise."""
        answer = self._command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {_thrown(answer['exceptionDetails'])}")
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 20) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"not within {seconds} s: {expression}")
            time.sleep(0.05)

    def errors(self) -> list[str]:
        """Exceptions, console errors, and errors of the browser itself, such as missing files."""
        found = []
        for event in self._browser.events(self._session):
            method, params = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                found.append(_thrown(params["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
                found.append(" ".join(str(part.get("value", part.get("description"))) for part in params["args"]))
            elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}".strip())
        return found

    def requests(self) -> list[str]:
        """The addresses of all requests in order, except those of embedded images."""
        events = self._browser.events(self._session)
        sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if urlsplit(url).scheme not in ("data", "blob", "about")]

    def foreign_requests(self) -> list[str]:
        """Requests to another host or port than the page's own; for a file:// page, all but those of files."""
        own = self.evaluate("location.protocol + '//' + location.host")
        return [url for url in self.requests() if "{0.scheme}://{0.netloc}".format(urlsplit(url)) != own]

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Save a PNG of the whole page, or only of what fits the window."""
        data = self._command("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))
        path.write_bytes(base64.b64decode(data["data"]))

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self._command("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def pdf(self, path: Path) -> None:
        """Print the page to a PDF file."""
        path.write_bytes(base64.b64decode(self._command("Page.printToPDF", printBackground=False)["data"]))

    def close(self) -> None:
        """Close the tab."""
        self._browser.command("Target.closeTarget", targetId=self._target)


def _high(descriptor: int) -> int:
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10)
    os.close(descriptor)
    return copy


def _thrown(details: dict[str, Any]) -> str:
    return details.get("exception", {}).get("description") or details["text"]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A Chromium. Where none is installed, the test is skipped, or fails if CI is set."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        reason = f"needs a browser: install Chromium (apt-get install chromium), one of {', '.join(NAMES)}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    driven = Browser(program, tmp_path_factory.mktemp("chromium"))
    yield driven
    driven.close()
