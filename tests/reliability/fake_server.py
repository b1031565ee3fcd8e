"""A local HTTP server that answers correctly or not."""

import gzip
import http.server
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any


class FakeServer(http.server.ThreadingHTTPServer):
    """Serves files by their last path component, the way `answer` says, and notes the paths that were requested."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(files)
        self.answer: Answer = correct
        self.requested: list[str] = []
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that hang up."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: FakeServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.requested.append(self.path)
            number = len(self.server.requested)
        with suppress(OSError):
            self.server.answer(self, number)

    @property
    def body(self) -> bytes:
        return self.server.files[self.path.partition("?")[0].rpartition("/")[2]]

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Connection", "close")
        self.end_headers()


Answer = Callable[[Handler, int], None]
"""Answers a request, given its handler and the number of requests so far."""


def correct(handler: Handler, number: int) -> None:
    handler.head(200, Content_Length=len(handler.body))
    handler.wfile.write(handler.body)


def half(handler: Handler, number: int) -> None:
    """Announce the whole file, send half of it, hang up."""
    handler.head(200, Content_Length=len(handler.body))
    handler.wfile.write(handler.body[: len(handler.body) // 2])


def slow(handler: Handler, number: int) -> None:
    """Send the file in many small parts."""
    handler.head(200, Content_Length=len(handler.body))
    for begin in range(0, len(handler.body), 8000):
        handler.wfile.write(handler.body[begin : begin + 8000])
        time.sleep(0.01)


def first(*answers: Answer, then: Answer = correct) -> Answer:
    """Give one answer to each of the first requests, and another to the rest."""

    def answer(handler: Handler, number: int) -> None:
        (answers[number - 1] if number <= len(answers) else then)(handler, number)

    return answer


def status(code: int, **headers: object) -> Answer:
    """Send only a status."""
    return lambda handler, number: handler.head(code, Content_Length=0, **headers)


def send(body: bytes, **headers: object) -> Answer:
    """Send another body, with these headers."""

    def answer(handler: Handler, number: int) -> None:
        handler.head(200, **{"Content_Length": len(body), **headers})
        handler.wfile.write(body)

    return answer


def compressed(handler: Handler, number: int) -> None:
    send(gzip.compress(handler.body), Content_Encoding="gzip")(handler, number)


def chunked(handler: Handler, number: int) -> None:
    """Send the body in chunks, without its length."""
    handler.protocol_version = "HTTP/1.1"
    handler.head(200, Transfer_Encoding="chunked")
    for begin in range(0, len(handler.body), 5000):
        data = handler.body[begin : begin + 5000]
        handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    handler.wfile.write(b"0\r\n\r\n")


def endless(handler: Handler, number: int) -> None:
    """Send data without end and without announcing a length."""
    handler.head(200)
    while True:
        handler.wfile.write(bytes(1 << 16))


def silent(handler: Handler, number: int) -> None:
    """Accept the request and send nothing for a while."""
    time.sleep(2)


def stalled(handler: Handler, number: int) -> None:
    """Send half of the file and then nothing for a while."""
    half(handler, number)
    time.sleep(2)


def reset(handler: Handler, number: int) -> None:
    """Send some bytes, then tear the connection down."""
    handler.head(200, Content_Length=len(handler.body))
    handler.wfile.write(handler.body[:3000])
    handler.wfile.flush()
    time.sleep(0.05)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def garbage(handler: Handler, number: int) -> None:
    """Answer in another protocol than HTTP."""
    handler.wfile.write(b"220 welcome to the mail server\r\n")


def redirect(to: str) -> Answer:
    """Redirect to an address, which gets correct answers if it contains "there". ``{}`` is this server's address."""

    def answer(handler: Handler, number: int) -> None:
        if "there" in handler.path:
            correct(handler, number)
        else:
            handler.head(302, Location=to.format(handler.server.address), Content_Length=0)

    return answer


def redirect_loop(handler: Handler, number: int) -> None:
    handler.head(302, Location=handler.path, Content_Length=0)


@contextmanager
def serving(files: Mapping[str, bytes], answer: Answer = correct) -> Iterator[FakeServer]:
    """Run a server in a thread until the block ends."""
    with FakeServer(files) as server:
        server.answer = answer
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
