"""One request to a publisher's server, its failures told apart into passing and lasting ones."""

import contextlib
import dataclasses
import email.utils
import http
import http.client
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping

from jnst.weights.opener import Refused, Transport, check_address, make_opener

CHUNK = 1 << 16
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of HTTP after which the same request may succeed."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Interrupted(Exception):
    """A failure that may pass.

    Attributes:
        wait: The seconds for which the server asked to be left alone, if it did.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Misfit(Interrupted):
    """The server's answer does not fit what is here already: that is to be thrown away."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """An answer whose body is still to be read.

    Attributes:
        status: 200 or 206.
        headers: By lower-case name.
        linked: The hash that a redirect stated for what it leads to (Hugging Face's ``X-Linked-ETag``); else None.
        body: What is read from.
    """

    status: int
    headers: Mapping[str, str]
    linked: str | None
    body: http.client.HTTPResponse

    @property
    def length(self) -> int | None:
        """The length of the body in bytes, where the server says it."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def validator(self) -> str | None:
        """What tells this version of the file from others, for ``If-Range``: a strong ETag, or its date."""
        tag = self.headers.get("etag")
        return tag if tag and not tag.startswith("W/") else self.headers.get("last-modified")

    def chunks(self, transport: Transport) -> Iterator[bytes]:
        """The body, as it arrives.

        Raises:
            Interrupted: It broke off, stalled, or comes too slowly.
        """
        begun, count = time.monotonic(), 0
        while True:
            try:
                data = self.body.read1(CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _failure(error) from error
            if not data:
                return
            count += len(data)
            seconds = time.monotonic() - begun
            if seconds > transport.patience:
                if count < transport.slowest * seconds:
                    raise Interrupted(f"only {count / seconds:.0f} bytes a second came")
                begun, count = time.monotonic(), 0
            yield data


@contextlib.contextmanager
def request(address: str, transport: Transport, headers: Mapping[str, str]) -> Iterator[Reply]:
    """Ask for a file. Proxies are taken from the environment (``https_proxy``, ``no_proxy``).

    Args:
        address: Where it is.
        transport: How patiently.
        headers: Further request headers.

    Yields:
        The answer, with status 200 or 206 and an unencoded body that is no web page.

    Raises:
        Refused: Any other answer that will not change; an address or a redirect that is not https.
        Interrupted: A failure that may pass.
    """
    check_address(address, transport)
    asked = urllib.request.Request(
        address, headers={"User-Agent": "jnst", "Accept-Encoding": "identity", **headers}, method="GET"
    )
    try:
        answer = make_opener(transport).open(asked, timeout=transport.timeout)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _failure(error) from error
    with answer:
        fields = {name.lower(): value for name, value in answer.headers.items()}
        _check_answer(answer.status, fields)
        yield Reply(answer.status, fields, getattr(answer, "linked", None), answer)


def _check_answer(status: int, fields: Mapping[str, str]) -> None:
    if status not in (200, 206):
        raise Refused(f"the server answered {status}, expected 200 or 206")
    encoding = fields.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Refused(f"the server sent it encoded ({encoding[:40]!r}) although the file itself was asked for")
    if fields.get("content-type", "").strip().lower().startswith(("text/html", "application/xhtml")):
        raise Refused("the server sent a web page instead of the file")


def _failure(error: Exception) -> Refused | Interrupted:
    """What a failure of the libraries below amounts to."""
    if isinstance(error, urllib.error.HTTPError):
        # Not `with`, which does not bear an answer that is closed already.
        error.close()
        return _status_failure(error)
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        return _failure(error.reason)
    if isinstance(error, ssl.SSLCertVerificationError):
        return Refused(f"its certificate is not trusted ({error.verify_message}): SSL_CERT_FILE names further ones")
    if isinstance(error, socket.gaierror):
        reason = f"no such host, or no network ({error.strerror})"
        return Interrupted(reason) if error.errno == socket.EAI_AGAIN else Refused(reason)
    if isinstance(error, TimeoutError):
        return Interrupted("no answer in time")
    if isinstance(error, OSError | http.client.IncompleteRead):
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        return Interrupted(f"the connection failed ({' '.join(reason.split())[:160]})")
    return Refused(f"the server's answer makes no sense ({type(error).__name__}: {str(error)[:120]!r})")


def _status_failure(error: urllib.error.HTTPError) -> Refused | Interrupted:
    if error.code in REDIRECTS:
        return Refused(f"the server redirects in circles, or to nowhere ({error.code})")
    reason = f"the server answered {error.code} {str(error.reason)[:60]!r}"
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return Misfit(reason)
    if error.code not in PASSING:
        return Refused(reason)
    return Interrupted(reason, _seconds(error.headers.get("Retry-After")))


def _seconds(retry_after: str | None) -> float | None:
    """A ``Retry-After`` header, a number of seconds or a date, as seconds from now; None if it says nothing."""
    if retry_after is None:
        return None
    if retry_after.strip().isascii() and retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
