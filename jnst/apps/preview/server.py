"""The server of the page: three addresses, read only, for browsers on this machine.

What it does not know it refuses: other paths, methods other than GET, requests with a body or too long, a ``Host``
that a page of another site could have been tricked into sending (DNS rebinding), and too many connections.
"""

import contextlib
import http.server
import io
import ipaddress
import socket
import socketserver
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NamedTuple

from jnst.apps.preview.live import Live
from jnst.apps.preview.page import PAGE, POLICY

MOST_CONNECTIONS = 64
MOST_BYTES = 8192
"""Of a request, its line and its headers together."""
PATIENCE = 10
"""Seconds that a connection may be silent, or not take what it is sent."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer."""
FULL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Route(NamedTuple):
    """What is at an address: its media type, and its bytes as they are now; None: nothing yet."""

    media_type: str
    body: Callable[[Live], bytes | None]


ROUTES = {
    "/": Route("text/html; charset=utf-8", lambda live: PAGE),
    "/state": Route("application/json", Live.state),
    "/image": Route("image/jpeg", Live.image),
}


class Server(http.server.ThreadingHTTPServer):
    """A thread for each connection.

    Args:
        address: An IP address.
        port: 0 for a free one.
        live: What is shown.

    Raises:
        OSError: The port cannot be had.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: str, port: int, live: Live) -> None:
        self.live, self.is_local = live, ipaddress.ip_address(address).is_loopback
        self._open: set[Any] = set()
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), Handler)

    def server_bind(self) -> None:
        """Bind, without asking the network what this machine is called."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "jnst", self.socket.getsockname()[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own, if there are not too many."""
        if len(self._open) < MOST_CONNECTIONS:
            self._open.add(request)
            super().process_request(request, client_address)
        else:
            with contextlib.suppress(OSError):
                request.sendall(FULL)
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Close the port and all connections."""
        super().server_close()
        for request in tuple(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of viewers that went away."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _TooLong(Exception):
    """A request is longer than `MOST_BYTES`."""


class _Limited(io.BufferedIOBase):
    """A stream of which only so many bytes can be read, until it is told that a new request begins."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._left = stream, MOST_BYTES

    def begin(self) -> None:
        self._left = MOST_BYTES

    def readline(self, size: int | None = -1, /) -> bytes:
        line = self._stream.readline(self._left + 1)
        self._left -= len(line)
        if self._left < 0:
            raise _TooLong
        return line

    def close(self) -> None:
        self._stream.close()
        super().close()


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "jnst", ""
    timeout = PATIENCE
    disable_nagle_algorithm = True
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def setup(self) -> None:
        """See `socketserver.StreamRequestHandler`."""
        super().setup()
        self.rfile = self._limited = _Limited(self.rfile)

    def handle_one_request(self) -> None:
        """Read and answer one request."""
        self._limited.begin()
        try:
            super().handle_one_request()
        except _TooLong:
            self.requestline, self.command = "", "GET"
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def do_GET(self) -> None:
        """Answer what is in `ROUTES`."""
        fault = self._fault()
        if fault is not None:
            self.send_error(fault)
            return
        route = ROUTES[self.path]
        body = route.body(self.server.live)
        if body is None:
            self.send_error(HTTPStatus.NOT_FOUND, "no image yet")
        else:
            self._answer(HTTPStatus.OK, route.media_type, body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse in one line of plain text, and hang up; what is not GET is not allowed rather than not implemented."""
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        # What could not be understood is answered in our version, not in that of a request without any.
        self.close_connection, self.request_version = True, self.protocol_version
        self._answer(status, "text/plain; charset=utf-8", f"{status.phrase}\n".encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to the run."""

    def _fault(self) -> HTTPStatus | None:
        """Why a request is refused."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not is_allowed(hosts[0], local=self.server.is_local):
            return HTTPStatus.FORBIDDEN
        if "Transfer-Encoding" in self.headers or self.headers.get("Content-Length", "0") != "0":
            return HTTPStatus.BAD_REQUEST
        return None if self.path in ROUTES else HTTPStatus.NOT_FOUND

    def _answer(self, status: HTTPStatus, media_type: str, body: bytes) -> None:
        self.send_response(status)
        headers = HEADERS | {"Content-Type": media_type, "Content-Length": str(len(body))}
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = "GET"
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def is_allowed(host: str, *, local: bool) -> bool:
    """Whether a ``Host`` header is one that nobody else can make a name for: localhost or an address, with any port.

    Ports may differ from the server's, where a tunnel leads to it.

    Args:
        host: The header's value.
        local: Whether only addresses of this machine itself will do.
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
