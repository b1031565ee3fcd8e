"""A run's page, from its first step to its last."""

import contextlib
import errno
import ipaddress
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from jnst.apps.preview.live import FINISHED, POLL, Live
from jnst.apps.preview.server import Server
from jnst.errors import ArgumentError
from jnst.solve.run import Report
from jnst.types import Image

REASONS = {
    errno.EADDRINUSE: "it is in use: choose another, or 0 for a free one",
    errno.EACCES: "this user may not have it: choose one from 1024 on, or 0 for a free one",
    errno.EADDRNOTAVAIL: "this machine does not have that address: choose one that it has",
}
"""Why a port cannot be had, and what to do."""
LINGER = POLL + 0.5
"""Seconds for which a page that was looked at lately is served after the end, so that it learns of it."""
WAKE = 0.1
"""Seconds after which the server looks whether it is to end."""


class Preview:
    """A callback for `jnst.transfer.stylize` and its like that shows the run on a page; see `serve`.

    Attributes:
        address: The page's.
    """

    def __init__(self, address: str, live: Live) -> None:
        self.address, self._live = address, live

    def __call__(self, report: Report) -> None:
        """Take over the newest state; the image is copied only if somebody looked since the last copy."""
        self._live.report(report)

    def show(self, image: Image) -> None:
        """Show an image ``(h, w, 3)``: the result, at the end."""
        self._live.show(image)


@contextlib.contextmanager
def serve(
    port: int = 0,
    host: str = "127.0.0.1",
    *,
    title: str = "jnst",
    settings: Mapping[str, object] | None = None,
    finish: Callable[[Image], Image] = lambda image: image,
) -> Iterator[Preview]:
    """Serve a page that shows a run: its image as it forms, its losses, and the time left.

    The run waits for nobody: images are compressed by the threads of those who look, at most once each. The server
    ends with the context; a page that is open then says how the run ended, and keeps the last image.

    Args:
        port: Of TCP; 0: a free one.
        host: An IP address of this machine. At any but 127.0.0.1 and ::1 everybody who reaches it can watch: there is
            neither password nor encryption.
        title: What the page is called.
        settings: Names and values to be shown beside the image.
        finish: What is done to an image ``(h, w, 3)`` on the way before it is shown; called in other threads.

    Raises:
        ArgumentError: Not an IP address, or a port that cannot be had.
    """
    live = Live(title, settings or {}, finish)
    server = _server(host, port, live)
    thread = threading.Thread(target=server.serve_forever, args=(WAKE,), name="jnst preview", daemon=True)
    thread.start()
    shown = f"[{host}]" if ":" in host else host
    try:
        yield Preview(f"http://{shown}:{server.server_port}/", live)
        live.end(FINISHED if live.is_complete() else "stopped before the end")
        if live.is_watched():
            time.sleep(LINGER)
    except Exception as error:
        live.end(f"broken off: {error}")
        if live.is_watched():
            time.sleep(LINGER)
        raise
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _server(host: str, port: int, live: Live) -> Server:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ArgumentError(f"preview host {host!r}: expected an IP address of this machine, such as 127.0.0.1") from None
    if not 0 <= port < 2**16:
        raise ArgumentError(f"preview port {port}: expected a number from 0 (a free one) to {2**16 - 1}")
    try:
        return Server(host, port, live)
    except OSError as error:
        reason = REASONS.get(error.errno or 0, f"{error.strerror}: choose another")
        raise ArgumentError(f"preview port {port} of {host}: {reason}") from None
