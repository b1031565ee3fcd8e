"""Connections to publishers' servers: encrypted, through the user's proxies, redirects and slow answers watched."""

import contextlib
import dataclasses
import http.client
import socket
import ssl
import threading
import urllib.parse
import urllib.request
from typing import Any


@dataclasses.dataclass(frozen=True)
class Transport:
    """How patiently a server is talked to.

    Attributes:
        timeout: Seconds without a byte, after which a connection is given up; as long may the answer's head take.
        patience: Seconds over which the speed is measured.
        slowest: Bytes a second; a connection that is slower is given up.
        tries: How often in a row a request may fail before the download does.
        pause: Seconds before the second try, at most; doubled for every further one.
        longest_pause: Seconds; a server that asks for a longer one is not waited for.
        plain_hosts: Hosts that may be talked to without encryption: for tests with a server of their own.
    """

    timeout: float = 30.0
    patience: float = 30.0
    slowest: float = 2000.0
    tries: int = 4
    pause: float = 1.0
    longest_pause: float = 60.0
    plain_hosts: tuple[str, ...] = ()


class Refused(Exception):
    """A failure that will not pass: trying again is useless."""


def check_address(address: str, transport: Transport) -> None:
    """Raise `Refused` unless an address is encrypted, or of a host for which plain http is allowed."""
    try:
        parts = urllib.parse.urlsplit(address)
        sound = parts.hostname and (
            parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in transport.plain_hosts)
        )
    except ValueError:
        sound = False
    if not sound:
        raise Refused(f"{address[:200]!r} is not an https address")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows up to ten, none to an unencrypted address."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def http_error_302(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any) -> Any:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except Exception:
            # The base class leaves the connection open when it refuses to follow.
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> Any:
        check_address(newurl, self.transport)
        following: Any = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None:
            following.linked = (headers.get("X-Linked-ETag") or "").strip('"') or getattr(req, "linked", None)
        return following


class _KeepLinked(urllib.request.BaseHandler):
    """Hands what a redirect stated on to the answer."""

    def http_response(self, request: Any, response: Any) -> Any:
        response.linked = getattr(request, "linked", None)
        return response

    https_response = http_response


class _Watched(http.client.HTTPConnection):
    """Hangs up on a server that does not finish the head of its answer: the socket's timeout is for each byte."""

    hung_up = False

    def getresponse(self) -> http.client.HTTPResponse:
        watch = threading.Timer(self.timeout or 0.0, self._hang_up)
        watch.daemon = True
        watch.start()
        try:
            return super().getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise TimeoutError if self.hung_up else error from None
        finally:
            watch.cancel()

    def _hang_up(self) -> None:
        self.hung_up = True
        with contextlib.suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)


class _WatchedTLS(_Watched, http.client.HTTPSConnection):
    """The same, encrypted."""


class _Plain(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Watched, req)


class _TLS(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_WatchedTLS, req, context=ssl.create_default_context())  # pyright: ignore[reportCallIssue]


def make_opener(transport: Transport) -> urllib.request.OpenerDirector:
    """What opens http and https addresses, and no others, as `transport` says."""
    # Not build_opener, which would open files and FTP too.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        _Plain(),
        _TLS(),
        _Redirects(transport),
        _KeepLinked(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
