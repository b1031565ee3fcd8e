"""Downloading a file with pooch."""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from jnst.weights.formats.tensors import one_line

RETRIES = 1
"""How often a download is repeated that failed or had the wrong hash."""

TIMEOUT = 30.0
"""Seconds to wait for a connection, and then for each part of the answer."""

CHUNK_BYTES = 1 << 16

TEMPORARY = (408, 425, 429)
"""The HTTP client errors (4xx) that may disappear when the request is repeated."""

HUGGING_FACE = "https://huggingface.co"


class DownloadError(Exception):
    """A file could not be downloaded; the message says why."""


class WrongHash(DownloadError, ValueError):
    """A file has another hash than expected. Being a `ValueError`, it makes pooch repeat the download."""


def mirrored(address: str) -> str:
    """Replace Hugging Face in an address by the mirror that is set in ``HF_ENDPOINT``, if any."""
    mirror = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    if mirror and address.startswith(f"{HUGGING_FACE}/"):
        return mirror + address.removeprefix(HUGGING_FACE)
    return address


def download(address: str, path: Path, most_bytes: int, check: Callable[[Path], str]) -> str:
    """Download a file. It appears under its name when it is complete and checked.

    As with every program that uses requests, the environment sets proxies (``HTTPS_PROXY``, ``NO_PROXY``),
    certificates (``REQUESTS_CA_BUNDLE``) and passwords (``~/.netrc``). If standard error is a terminal, it shows a
    progress bar.

    Args:
        address: The URL.
        path: The file to write.
        most_bytes: The size at which the download is given up.
        check: Called with the path of the complete file before it gets its name; returns its hash or raises
            `WrongHash`.

    Returns:
        What ``check`` returned.

    Raises:
        DownloadError: The server could not be reached, does not have the file, or sent too much; or (`WrongHash`) the
            file did not pass the check.
        OSError: The disk is full, or the folder cannot be written.
    """
    import pooch
    import requests

    found = ""

    def attempt(url: str, output_file: str, _: object) -> None:
        nonlocal found
        with contextlib.ExitStack() as responses:
            get = pooch.HTTPDownloader(
                progressbar=_has_terminal(),
                chunk_size=CHUNK_BYTES,
                timeout=TIMEOUT,
                # pooch does not close responses.
                hooks={"response": lambda response, **_: responses.enter_context(response)},
            )
            try:
                with open(output_file, "wb") as file:
                    get(url, _BoundedFile(file, most_bytes), None)
            except requests.HTTPError as error:
                status = error.response.status_code if error.response is not None else 0
                if 400 <= status < 500 and status not in TEMPORARY:
                    raise DownloadError(_reason(error)) from error
                raise
        # pooch's own check knows neither hashes of which only the first digits are documented nor several hashes.
        found = check(Path(output_file))

    files = pooch.create(
        path.parent, base_url="", registry={path.name: None}, urls={path.name: address}, retry_if_failed=RETRIES
    )
    try:
        with _silenced(pooch.get_logger()):
            files.fetch(path.name, downloader=attempt)  # pyright: ignore[reportArgumentType] - pooch's type is wrong
    except DownloadError:
        raise
    except (requests.RequestException, ValueError) as error:
        raise DownloadError(_reason(error)) from error
    return found


class _BoundedFile:
    """A file that refuses to grow beyond a size: a server may send without end."""

    def __init__(self, file: BinaryIO, most_bytes: int) -> None:
        self.file, self.most_bytes = file, most_bytes

    def write(self, data: bytes) -> None:
        if self.file.tell() + len(data) > self.most_bytes:
            raise DownloadError(f"the server sent more than {self.most_bytes} bytes")
        self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _has_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


@contextlib.contextmanager
def _silenced(logger: logging.Logger) -> Iterator[None]:
    """Suppress a logger's messages below warnings: pooch logs every download to standard error."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _reason(error: Exception) -> str:
    """Say in a few words why a request failed."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        reason = f"the server answered {error.response.status_code} {error.response.reason}"
    elif isinstance(error, requests.Timeout):
        reason = f"the server did not answer within {TIMEOUT:g} s"
    else:
        # urllib3 hides the reason inside a message about its pool of connections.
        cause = getattr(error.args[0], "reason", error) if error.args else error
        reason = f"the request failed ({str(cause)[:200]})"
        if isinstance(error, requests.exceptions.SSLError):
            reason += "; REQUESTS_CA_BUNDLE can name a file of trusted certificates"
    return one_line(" ".join(reason.split()))
