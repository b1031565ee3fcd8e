"""The page's server: a few read-only addresses for browsers on this machine.

It refuses everything else: unknown paths, methods other than GET, requests with a body, requests that are too long, too
many connections, and ``Host`` headers that another site could have made a browser send (DNS rebinding). The standard
library's server does the rest.
"""

import contextlib
import errno
import http.server
import io
import ipaddress
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from importlib import resources
from typing import Any, NamedTuple

from jnst.apps.preview.live import FINISHED, POLL, Live
from jnst.errors import ArgumentError
from jnst.transfer import Report
from jnst.types import Image

MAX_CONNECTIONS = 64
MAX_REQUEST = 8192
"""The length of a request line and its headers together, in bytes."""
TIMEOUT = 10
"""Seconds after which a connection is closed that sends nothing, or does not take its answer."""
LINGER = POLL + 0.5
"""Seconds for which a watched page is served after the end of the run, so that it learns about it."""
SHUTDOWN_POLL = 0.1
"""Seconds between two checks whether the server should stop."""

POLICY = "; ".join(
    (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src blob: data:"),
        *("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"),
    )
)
"""The content security policy: the page's own script and style only, no other host, no frames."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""The headers of every answer."""
OVERLOADED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

REASONS = {
    errno.EADDRINUSE: "it is in use: choose another, or 0 for a free one",
    errno.EACCES: "you have no permission to use it: choose one from 1024 on, or 0 for a free one",
    errno.EADDRNOTAVAIL: "this machine does not have that address: choose one of its own",
}
"""Why a port cannot be used, and what to do."""


class Preview:
    """A callback for `jnst.stylize` and its relatives that shows the run on a page; see `serve`.

    Attributes:
        address: The address of the page.
    """

    def __init__(self, address: str, live: Live) -> None:
        self.address, self._live = address, live

    def __call__(self, report: Report) -> None:
        """Show the newest state. The image is copied only if someone has looked since the last copy."""
        self._live.report(report)

    def wait(self, reason: str) -> None:
        """Show what the run waits for, until the next report."""
        self._live.wait(reason)

    def show(self, image: Image) -> None:
        """Show an image ``(h, w, 3)``, such as the result at the end."""
        self._live.show(image)


@contextlib.contextmanager
def serve(
    port: int = 0, host: str = "127.0.0.1", *, title: str = "jnst", settings: Mapping[str, object] | None = None
) -> Iterator[Preview]:
    """Serve a page that shows a run: its current image, its losses, and the time left.

    The run does not wait for viewers: their threads compress the images, each image at most once. The server stops at
    the end of the context. Open pages then say how the run ended, and keep the last image.

    Args:
        port: A TCP port; 0 for a free one.
        host: An IP address of this machine. At addresses other than 127.0.0.1 and ::1, everyone who can reach it can
            watch: there is neither a password nor encryption.
        title: The page's title.
        settings: Names and values to show next to the image.

    Raises:
        ArgumentError: Not an IP address, or a port that cannot be used.
    """
    live = Live(title, settings or {})
    server = _open(host, port, live)
    thread = threading.Thread(target=server.serve_forever, args=(SHUTDOWN_POLL,), name="jnst preview", daemon=True)
    thread.start()
    shown_host = f"[{host}]" if ":" in host else host
    try:
        yield Preview(f"http://{shown_host}:{server.server_port}/", live)
        _end(live, FINISHED if live.is_complete() else "stopped before the end")
    except Exception as error:
        _end(live, f"failed: {error}")
        raise
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _open(host: str, port: int, live: Live) -> "Server":
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ArgumentError(
            f"preview host {host!r}: expected an IP address of this machine, such as 127.0.0.1"
        ) from None
    if not 0 <= port < 2**16:
        raise ArgumentError(f"preview port {port}: expected a number from 0 (a free one) to {2**16 - 1}")
    try:
        return Server(host, port, live)
    except OSError as error:
        reason = REASONS.get(error.errno or 0, f"{error.strerror}: choose another")
        raise ArgumentError(f"preview port {port} of {host}: {reason}") from None


def _end(live: Live, how: str) -> None:
    live.end(how)
    if live.is_watched():
        time.sleep(LINGER)


class Route(NamedTuple):
    """The media type at an address, and a function that returns the current content; None if there is none yet."""

    media_type: str
    content: Callable[[Live], bytes | None]


def _file(name: str, media_type: str) -> Route:
    data = (resources.files("jnst.apps.preview") / name).read_bytes()
    return Route(f"{media_type}; charset=utf-8", lambda live: data)


ROUTES = {
    "/": _file("preview.html", "text/html"),
    "/preview.css": _file("preview.css", "text/css"),
    "/preview.js": _file("preview.js", "text/javascript"),
    "/state": Route("application/json", Live.state),
    "/image": Route("image/jpeg", Live.image),
}


class Server(http.server.ThreadingHTTPServer):
    """A server with one thread for each connection.

    Args:
        host: An IP address.
        port: 0 for a free one.
        live: The run to show.

    Raises:
        OSError: The port cannot be used.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, live: Live) -> None:
        self.live, self.is_local = live, ipaddress.ip_address(host).is_loopback
        self._connections: set[Any] = set()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)

    def server_bind(self) -> None:
        """Bind, but unlike the base class without a DNS look-up of this machine's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "jnst", self.socket.getsockname()[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread, unless there are too many."""
        if len(self._connections) < MAX_CONNECTIONS:
            self._connections.add(request)
            super().process_request(request, client_address)
        else:
            with contextlib.suppress(OSError):
                request.sendall(OVERLOADED)
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Close the port and all connections."""
        super().server_close()
        for request in tuple(self._connections):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore viewers that disconnected."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _RequestTooLong(Exception):
    pass


class _Limited(io.BufferedIOBase):
    """A stream of requests, from each of which at most `MAX_REQUEST` bytes can be read."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._left = stream, MAX_REQUEST

    def next_request(self) -> None:
        self._left = MAX_REQUEST

    def readline(self, size: int | None = -1, /) -> bytes:
        line = self._stream.readline(self._left + 1)
        self._left -= len(line)
        if self._left < 0:
            raise _RequestTooLong
        return line

    def close(self) -> None:
        self._stream.close()
        super().close()


class Handler(http.server.BaseHTTPRequestHandler):
    """A connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "jnst", ""
    timeout = TIMEOUT
    disable_nagle_algorithm = True
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def setup(self) -> None:
        """Limit what can be read from the connection."""
        super().setup()
        self.rfile = self._limited = _Limited(self.rfile)

    def handle_one_request(self) -> None:
        """Read and answer a request."""
        self._limited.next_request()
        try:
            super().handle_one_request()
        except _RequestTooLong:
            self.requestline, self.command = "", "GET"
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def do_GET(self) -> None:
        """Answer with the content of `ROUTES`."""
        refusal = self._refusal()
        if refusal is not None:
            self.send_error(refusal)
            return
        route = ROUTES[self.path]
        content = route.content(self.server.live)
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self._answer(HTTPStatus.OK, route.media_type, content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a request in one line of plain text, and close the connection."""
        # The base class calls methods without a `do_` function not implemented.
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        # A request that could not be parsed may have no version.
        self.close_connection, self.request_version = True, self.protocol_version
        self._answer(status, "text/plain; charset=utf-8", f"{status.phrase}\n".encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the terminal shows the run."""

    def _refusal(self) -> HTTPStatus | None:
        """The status with which to refuse a request, if it is not allowed."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not is_allowed_host(hosts[0], local=self.server.is_local):
            return HTTPStatus.FORBIDDEN
        if "Transfer-Encoding" in self.headers or self.headers.get("Content-Length", "0") != "0":
            return HTTPStatus.BAD_REQUEST
        return None if self.path in ROUTES else HTTPStatus.NOT_FOUND

    def _answer(self, status: HTTPStatus, media_type: str, content: bytes) -> None:
        self.send_response(status)
        headers = HEADERS | {"Content-Type": media_type, "Content-Length": str(len(content))}
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = "GET"
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def is_allowed_host(host: str, *, local: bool) -> bool:
    """Whether a ``Host`` header is localhost or an IP address, for which no one else can set up a DNS name.

    Its port may differ from the server's, because a tunnel may lead to the server.

    Args:
        host: The header's value.
        local: Whether to allow only loopback addresses.
    """
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        port = port.removeprefix(":") if bracket and (port.startswith(":") or not port) else "x"
    else:
        name, _, port = host.partition(":")
    if port and not (port.isascii() and port.isdigit()):
        return False
    if name.lower() == "localhost":
        return not host.startswith("[")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or not local
