"""A server on this machine that serves files, honestly or not."""

import email.utils
import http.server
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

TAG, OTHER_TAG = '"first"', '"second"'


class Asked(NamedTuple):
    """A request: its path, and the range that it asked for."""

    path: str
    range: str | None


class Liar(http.server.ThreadingHTTPServer):
    """What is served, how, and what was asked."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(files)
        self.lie: Lie = honest
        self.asked: list[Asked] = []
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are none."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Liar  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.asked.append(Asked(self.path, self.headers["Range"]))
            number = len(self.server.asked)
        with suppress(OSError):
            self.server.lie(self, number)

    @property
    def body(self) -> bytes:
        return self.server.files[self.path.partition("?")[0].rpartition("/")[2]]

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing on the terminal."""

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Connection", "close")
        self.end_headers()


Lie = Callable[[Handler, int], None]
"""Answers a request, given the handler and how many requests there were."""


def asked_range(handler: Handler, tag: str = TAG) -> tuple[int, int] | None:
    """The first byte and the one behind the last that are asked for, if a part of this version is."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers["Range"] or "")
    if match is None or handler.headers["If-Range"] not in (None, tag):
        return None
    end = min(len(handler.body), int(match[2]) + 1) if match[2] else len(handler.body)
    return int(match[1]), end


def honest(handler: Handler, number: int, tag: str = TAG) -> None:
    """As RFC 9110 has it."""
    serve(handler, handler.body, tag)


def serve(handler: Handler, body: bytes, tag: str = TAG, cut: int | None = None) -> None:
    """Serve a body or the part asked for, and perhaps hang up after so many bytes."""
    part = asked_range(handler, tag)
    if part is None:
        handler.head(200, Content_Length=len(body), ETag=tag)
        handler.wfile.write(body[:cut])
        return
    begin, end = part
    if begin >= len(body):
        handler.head(416, Content_Range=f"bytes */{len(body)}", Content_Length=0)
        return
    content_range = f"bytes {begin}-{end - 1}/{len(body)}"
    handler.head(206, Content_Length=end - begin, Content_Range=content_range, ETag=tag)
    handler.wfile.write(body[begin:end][:cut])


def half(handler: Handler, number: int) -> None:
    """Announce all of what is asked for, send half of it, hang up."""
    part = asked_range(handler)
    length = part[1] - part[0] if part else len(handler.body)
    serve(handler, handler.body, cut=length // 2)


def first(*lies: Lie, then: Lie = honest) -> Lie:
    """One lie for each of the first requests, then another way."""

    def lie(handler: Handler, number: int) -> None:
        (lies[number - 1] if number <= len(lies) else then)(handler, number)

    return lie


def whole(handler: Handler, number: int) -> None:
    """Never heard of ranges."""
    handler.head(200, Content_Length=len(handler.body))
    handler.wfile.write(handler.body)


def ranged(content_range: Callable[[int, int], str], tag: str | None = TAG) -> Lie:
    """Answer a request for a part with the rest of the file, under another `Content-Range`; others honestly."""

    def lie(handler: Handler, number: int) -> None:
        part, body = asked_range(handler), handler.body
        if part is None:
            honest(handler, number)
            return
        sent = body[part[0] : part[1]]
        handler.head(206, Content_Length=len(sent), Content_Range=content_range(part[0], len(body)), ETag=tag)
        handler.wfile.write(sent)

    return lie


def from_the_beginning(handler: Handler, number: int) -> None:
    """Whatever part is asked for, send the first bytes instead, and say so."""
    if handler.headers["Range"] is None:
        honest(handler, number)
        return
    body = handler.body
    handler.head(206, Content_Length=len(body), Content_Range=f"bytes 0-{len(body) - 1}/{len(body)}", ETag=TAG)
    handler.wfile.write(body)


def status(code: int, **headers: object) -> Lie:
    """Nothing but a status."""
    return lambda handler, number: handler.head(code, Content_Length=0, **headers)


def dressed(body: bytes | Callable[[bytes], bytes], **headers: object) -> Lie:
    """Another body, or the body changed, under these headers."""

    def lie(handler: Handler, number: int) -> None:
        sent = body(handler.body) if callable(body) else body
        handler.head(200, **{"Content_Length": len(sent), **headers})
        handler.wfile.write(sent)

    return lie


def chunked(handler: Handler, number: int) -> None:
    """The body in chunks, without its length."""
    handler.protocol_version = "HTTP/1.1"
    handler.head(200, Transfer_Encoding="chunked")
    for begin in range(0, len(handler.body), 5000):
        data = handler.body[begin : begin + 5000]
        handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    handler.wfile.write(b"0\r\n\r\n")


def endless(handler: Handler, number: int) -> None:
    """More and more, without a length."""
    handler.head(200)
    while True:
        handler.wfile.write(bytes(1 << 16))


def drip(handler: Handler, number: int) -> None:
    """A few bytes now and then."""
    handler.head(200, Content_Length=len(handler.body), ETag=TAG)
    for byte in handler.body[:100]:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.05)


def drip_head(handler: Handler, number: int) -> None:
    """Headers that never end, byte by byte."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def silence(handler: Handler, number: int) -> None:
    """Take the request, and say nothing."""
    time.sleep(2)


def reset(handler: Handler, number: int) -> None:
    """Some bytes, then a connection torn down."""
    handler.head(200, Content_Length=len(handler.body), ETag=TAG)
    handler.wfile.write(handler.body[:3000])
    handler.wfile.flush()
    time.sleep(0.05)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def garbage(handler: Handler, number: int) -> None:
    """No HTTP at all."""
    handler.wfile.write(b"220 welcome to the mail server\r\n")


def redirect(to: str, **headers: object) -> Lie:
    """Send somewhere else; whoever has been there is served honestly. ``{}`` stands for this server's address."""

    def lie(handler: Handler, number: int) -> None:
        if "there" in handler.path:
            honest(handler, number)
        else:
            handler.head(302, Location=to.format(handler.server.address), Content_Length=0, **headers)

    return lie


def in_circles(handler: Handler, number: int) -> None:
    """Back to where one is."""
    handler.head(302, Location=handler.path, Content_Length=0)


def ever_further(handler: Handler, number: int) -> None:
    """Always to another address."""
    handler.head(307, Location=f"/{number}{handler.path}", Content_Length=0)


def in_an_hour(handler: Handler, number: int) -> None:
    """Ask to come back at a time of day."""
    handler.head(503, Content_Length=0, Retry_After=email.utils.formatdate(time.time() + 3600, usegmt=True))


@contextmanager
def serving(files: Mapping[str, bytes], lie: Lie = honest) -> Iterator[Liar]:
    """A server in a thread, until the block ends."""
    with Liar(files) as server:
        server.lie = lie
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
