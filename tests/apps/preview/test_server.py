"""The server: three addresses for this machine, and nothing for anybody else."""

import io

import jax.numpy as jnp
import pytest
from made_reports import ask, raw, state_of
from PIL import Image

from jnst.apps.preview.page import PAGE
from jnst.apps.preview.server import MOST_BYTES, is_allowed


def test_the_address_is_of_this_machine_only(preview):
    assert preview.address.startswith("http://127.0.0.1:")


def test_the_page_the_state_and_the_image(preview):
    page = ask(preview, "/")
    assert (page.status, page.body) == (200, PAGE)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert state_of(preview)["title"] == "out.png"
    assert ask(preview, "/image").status == 404
    preview.show(jnp.full((6, 10, 3), 0.5))
    picture = ask(preview, "/image")
    assert (picture.status, picture.headers["Content-Type"]) == (200, "image/jpeg")
    with Image.open(io.BytesIO(picture.body)) as image:
        assert (image.size, image.getpixel((3, 3))) == ((10, 6), (128, 128, 128))


@pytest.mark.parametrize("path", ["/", "/state", "/nothing"])
def test_every_answer_forbids_what_the_page_does_not_need(preview, path):
    headers = ask(preview, path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Referrer-Policy"] == "no-referrer"
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "Python" not in headers["Server"]
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    "path",
    [
        *("/index.html", "/state/", "/image?x=1", "/?", "/../etc/passwd", "/%2e%2e/etc/passwd", "/favicon.ico"),
        *("*", "state", "http://127.0.0.1/state", "/state%00", "/STATE", "/./state"),
    ],
)
def test_other_paths_are_not_found(preview, path):
    answer = ask(preview, path)
    assert (answer.status, answer.body) == (404, b"Not Found\n")


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT", "get"])
def test_other_methods_are_not_allowed(preview, method):
    answer = ask(preview, "/state", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET")
    assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.1.5", "", "a b"],
)
@pytest.mark.parametrize("path", ["/", "/state", "/nothing"])
def test_names_of_others_are_forbidden(preview, host, path):
    answer = ask(preview, path, Host=host)
    assert (answer.status, answer.body) == (403, b"Forbidden\n")


def test_a_host_is_named_once(preview):
    for hosts in (b"", b"Host: localhost\r\nHost: evil.example\r\n", b"Host: localhost\r\nHost: localhost\r\n"):
        assert raw(preview, b"GET /state HTTP/1.1\r\n" + hosts + b"\r\n").startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    ("host", "local", "allowed"),
    [
        ("localhost", True, True),
        ("LocalHost:80", True, True),
        ("127.0.0.1", True, True),
        ("127.0.0.1:1", True, True),
        ("127.1.2.3:65535", True, True),
        ("[::1]", True, True),
        ("[::1]:8080", True, True),
        ("10.0.0.7", True, False),
        ("10.0.0.7:80", False, True),
        ("[fe80::1]:80", False, True),
        ("localhost:80", False, True),
        ("evil.example", False, False),
        ("example.localhost.evil.example", False, False),
        ("[localhost]", True, False),
        ("[::1", True, False),
        ("[::1]80", True, False),
        ("::1", True, False),
        ("127.0.0.1:", True, True),
        ("127.0.0.1:80:90", True, False),
        ("127.0.0.1:8a", True, False),
        ("127.0.0.1:\u0661", True, False),
        ("127.1", True, False),
        ("2130706433", True, False),
        ("0x7f.1", True, False),
        ("", True, False),
        ("user@127.0.0.1", True, False),
    ],
)
def test_hosts_that_nobody_can_make_a_name_for(host, local, allowed):
    assert is_allowed(host, local=local) == allowed


def test_bodies_are_refused(preview):
    for header in ({"Content-Length": "3"}, {"Transfer-Encoding": "chunked"}):
        assert ask(preview, "/state", **header).status == 400
    assert ask(preview, "/state", **{"Content-Length": "0"}).status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + MOST_BYTES * b"x" + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /state HTTP/1.1\r\nHost: localhost\r\nX: " + MOST_BYTES * b"x" + b"\r\n\r\n",
        b"GET /state HTTP/1.1\r\nHost: localhost\r\n" + 90 * (b"X: " + 200 * b"x" + b"\r\n") + b"\r\n",
        b"GET /state HTTP/1.1\r\nHost: localhost\r\n" + 200 * b"X: 1\r\n" + b"\r\n",
        MOST_BYTES * b"\0" + b"\r\n",
    ],
)
def test_long_requests_are_refused(preview, request_bytes):
    # What was not read makes the system reset the connection, perhaps before the refusal was read.
    try:
        answer = raw(preview, request_bytes)
    except ConnectionError:
        answer = b""
    assert answer == b"" or answer.split()[1] in (b"431", b"400")
    assert b"200" not in answer.split(b"\r\n", 1)[0]
    assert state_of(preview)["title"] == "out.png"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /state HTTP/9.9\r\nHost: localhost\r\n\r\n", b"505"),
        (b"GET /state HTTP/x\r\n\r\n", b"400"),
        (b"GET /state\r\n\r\n", b"403"),
        (b"GET /state with spaces HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
    ],
)
def test_nonsense_is_refused(preview, request_bytes, status):
    assert raw(preview, request_bytes).startswith(b"HTTP/1.1 " + status)


def test_many_requests_go_over_one_connection(preview):
    get = b"GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = get.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    # Together longer than a single request may be.
    assert raw(preview, 300 * get + last).count(b"HTTP/1.1 200 OK") == 301
