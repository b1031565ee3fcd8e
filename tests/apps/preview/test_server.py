"""The server: a few addresses for browsers on this machine, refusals of anything else, and a clean end."""

import io
import socket
import threading
import time
from pathlib import Path

import jax.numpy as jnp
import pytest
from made_reports import Answer, ask, connect, raw, report, state_of
from PIL import Image

import jnst.apps.preview.server
from jnst.apps.preview import Preview, serve
from jnst.apps.preview.server import MAX_REQUEST, is_allowed_host
from jnst.errors import JnstError

FILES = Path(jnst.apps.preview.server.__file__).parent


def test_the_address_is_that_of_this_machine(preview):
    assert preview.address.startswith("http://127.0.0.1:")


def test_the_page_the_state_and_the_image(preview):
    for path, file, media_type in (
        ("/", "preview.html", "text/html"),
        ("/preview.css", "preview.css", "text/css"),
        ("/preview.js", "preview.js", "text/javascript"),
    ):
        answer = ask(preview, path)
        assert (answer.status, answer.body) == (200, (FILES / file).read_bytes())
        assert answer.headers["Content-Type"] == f"{media_type}; charset=utf-8"
    assert state_of(preview)["title"] == "out.png"
    assert ask(preview, "/image").status == 404
    preview.show(jnp.full((6, 10, 3), 0.5))
    answer = ask(preview, "/image")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/jpeg")
    with Image.open(io.BytesIO(answer.body)) as image:
        assert (image.size, image.getpixel((3, 3))) == ((10, 6), (128, 128, 128))


@pytest.mark.parametrize("path", ["/", "/preview.js", "/state", "/nothing"])
def test_every_answer_forbids_what_the_page_does_not_need(preview, path):
    headers = ask(preview, path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Referrer-Policy"] == "no-referrer"
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == policy["script-src"] == policy["style-src"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "Python" not in headers["Server"]
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    "path",
    [
        *("/index.html", "/state/", "/image?x=1", "/?", "/../etc/passwd", "/%2e%2e/etc/passwd", "/favicon.ico"),
        *("*", "state", "http://127.0.0.1/state", "/state%00", "/STATE", "/./state", "/live.py", "/preview.html"),
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
def test_other_host_names_are_forbidden(preview, host, path):
    answer = ask(preview, path, Host=host)
    assert (answer.status, answer.body) == (403, b"Forbidden\n")


def test_requests_name_one_host(preview):
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
def test_allowed_hosts(host, local, allowed):
    assert is_allowed_host(host, local=local) == allowed


def test_bodies_are_refused(preview):
    for header in ({"Content-Length": "3"}, {"Transfer-Encoding": "chunked"}):
        assert ask(preview, "/state", **header).status == 400
    assert ask(preview, "/state", **{"Content-Length": "0"}).status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + MAX_REQUEST * b"x" + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /state HTTP/1.1\r\nHost: localhost\r\nX: " + MAX_REQUEST * b"x" + b"\r\n\r\n",
        b"GET /state HTTP/1.1\r\nHost: localhost\r\n" + 90 * (b"X: " + 200 * b"x" + b"\r\n") + b"\r\n",
        b"GET /state HTTP/1.1\r\nHost: localhost\r\n" + 200 * b"X: 1\r\n" + b"\r\n",
        MAX_REQUEST * b"\0" + b"\r\n",
    ],
)
def test_long_requests_are_refused(preview, request_bytes):
    # Unread data makes the system reset the connection, sometimes before the refusal has been read.
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
def test_malformed_requests_are_refused(preview, request_bytes, status):
    assert raw(preview, request_bytes).startswith(b"HTTP/1.1 " + status)


def test_a_connection_can_carry_many_requests(preview):
    get = b"GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = get.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    # Together they are longer than a single request may be.
    assert raw(preview, 300 * get + last).count(b"HTTP/1.1 200 OK") == 301


def test_too_many_connections_are_refused_until_others_close(preview, monkeypatch):
    monkeypatch.setattr(jnst.apps.preview.server, "MAX_CONNECTIONS", 3)
    held = [connect(preview) for _ in range(3)]
    while len(_server_threads()) < 3:
        time.sleep(0.01)
    with connect(preview) as refused:
        assert refused.recv(1000).startswith(b"HTTP/1.1 503 ")
    for connection in held:
        connection.close()
    while _server_threads():
        time.sleep(0.01)
    assert ask(preview).status == 200


def _server_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "process_request_thread" in thread.name]


def test_viewers_that_disconnect_do_no_harm(preview, capfd):
    preview.show(jnp.asarray(jnp.arange(300 * 400 * 3).reshape(300, 400, 3) % 255 / 255.0))
    get = b"GET /image HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for request in (b"", b"GET /st", b"GET /state HTTP/1.1\r\nHost: loc", get, 50 * get):
        with connect(preview) as connection:
            # Reset the connection instead of closing it, like a machine that vanished.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(request)
    preview(report(1, 10))
    while _server_threads():
        time.sleep(0.01)
    assert state_of(preview)["step"] == 1
    assert capfd.readouterr() == ("", "")


def test_ten_viewers_see_the_same_and_the_run_goes_on(preview):
    seen: list[list[Answer]] = [[] for _ in range(10)]

    def watch(answers: list[Answer]) -> None:
        while b'"step":40,' not in (answers[-1].body if answers else b""):
            ask(preview, "/image")
            answers.append(ask(preview))

    viewers = [threading.Thread(target=watch, args=(answers,)) for answers in seen]
    for viewer in viewers:
        viewer.start()
    for step in range(1, 41):
        preview(report(step, 40))
    for viewer in viewers:
        viewer.join(30)
    assert all(answer.status == 200 for answers in seen for answer in answers)
    assert len({answers[-1].body for answers in seen}) <= 2  # there may be a last image between two answers
    assert ask(preview, "/image").status == 200


def test_viewers_learn_about_the_end_and_then_the_server_closes(monkeypatch):
    monkeypatch.setattr("jnst.apps.preview.server.LINGER", 0.5)
    ends: list[str] = []

    def watch(preview: Preview) -> None:
        while not (ends and ends[-1]):
            ends.append(state_of(preview)["ended"])

    for steps, expected in (((1, 2), "finished"), ((1,), "stopped before the end")):
        ends.clear()
        with serve() as preview:
            viewer = threading.Thread(target=watch, args=(preview,))
            viewer.start()
            while not ends:
                time.sleep(0.01)
            for step in steps:
                preview(report(step, 2))
        viewer.join(20)
        assert ends[-1] == expected
        with pytest.raises(ConnectionRefusedError):
            connect(preview)
    assert not _server_threads()


def test_an_error_is_shown_and_raised(monkeypatch):
    monkeypatch.setattr("jnst.apps.preview.server.LINGER", 0.0)
    ended = []
    monkeypatch.setattr("jnst.apps.preview.live.Live.end", lambda live, how: ended.append(how))
    with pytest.raises(JnstError, match="style/relu1_1 stopped"), serve():
        raise JnstError("style/relu1_1 stopped being finite")
    assert ended == ["failed: style/relu1_1 stopped being finite"]


def test_without_viewers_the_server_closes_at_once(monkeypatch):
    waits: list[float] = []
    with serve() as preview:
        preview(report(1, 1))
        monkeypatch.setattr("jnst.apps.preview.server.time.sleep", waits.append)
    assert waits == []


def test_open_connections_are_closed_with_the_server(monkeypatch):
    monkeypatch.setattr("jnst.apps.preview.server.LINGER", 0.0)
    monkeypatch.setattr(jnst.apps.preview.server.Handler, "timeout", 60)
    with serve() as preview:
        idle, busy = connect(preview), connect(preview)
        busy.sendall(b"GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert busy.recv(1)
    with idle, busy:
        for connection in (idle, busy):
            while connection.recv(65536):
                pass


def test_a_port_in_use_says_so(preview):
    port = int(preview.address.rstrip("/").rpartition(":")[2])
    with pytest.raises(JnstError, match=rf"preview port {port} of 127\.0\.0\.1: it is in use.*0 for a free one"):
        serve(port).__enter__()


@pytest.mark.parametrize(
    ("port", "host", "words"),
    [
        (-1, "127.0.0.1", "preview port -1: expected a number from 0"),
        (65536, "127.0.0.1", "preview port 65536"),
        (0, "localhost", "preview host 'localhost': expected an IP address"),
        (0, "", "preview host ''"),
        (0, "192.0.2.1", "192.0.2.1: this machine does not have that address"),
    ],
)
def test_wrong_ports_and_hosts_are_refused(port, host, words):
    with pytest.raises(JnstError) as caught:
        serve(port, host).__enter__()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_host_names_are_forbidden_at_every_address(monkeypatch):
    monkeypatch.setattr("jnst.apps.preview.server.LINGER", 0.0)
    with serve(host="0.0.0.0") as preview:
        assert ask(preview, "/state", Host="10.1.2.3:99").status == 200
        assert ask(preview, "/state", Host="evil.example").status == 403


def test_ipv6(monkeypatch):
    monkeypatch.setattr("jnst.apps.preview.server.LINGER", 0.0)
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback address")
    with serve(host="::1") as preview:
        assert preview.address.startswith("http://[::1]:")
        assert state_of(preview)["step"] == 0
