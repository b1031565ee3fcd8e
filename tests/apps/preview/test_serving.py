"""A page from a run's first step to its last: who comes, who goes, and what is left behind."""

import socket
import threading
import time

import jax.numpy as jnp
import pytest
from made_reports import Answer, ask, connect, report, state_of

import jnst.apps.preview.server
from jnst.apps.preview import Preview, serve
from jnst.errors import JnstError


def test_too_many_connections_are_turned_away_and_others_served_again(preview, monkeypatch):
    monkeypatch.setattr(jnst.apps.preview.server, "MOST_CONNECTIONS", 3)
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


def test_viewers_that_go_away_change_nothing(preview, capfd):
    preview.show(jnp.asarray(jnp.arange(300 * 400 * 3).reshape(300, 400, 3) % 255 / 255.0))
    get = b"GET /image HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for request in (b"", b"GET /st", b"GET /state HTTP/1.1\r\nHost: loc", get, 50 * get):
        with connect(preview) as connection:
            # Reset instead of an orderly end, as of a machine that vanished.
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
    assert len({answers[-1].body for answers in seen}) <= 2  # a last image may have come in between
    assert ask(preview, "/image").status == 200


def test_the_end_is_told_to_those_who_watch_and_then_all_is_closed(monkeypatch):
    monkeypatch.setattr("jnst.apps.preview.serving.LINGER", 0.5)
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


def test_an_error_is_shown_and_goes_on(monkeypatch):
    monkeypatch.setattr("jnst.apps.preview.serving.LINGER", 0.0)
    ended = []
    monkeypatch.setattr("jnst.apps.preview.live.Live.end", lambda live, how: ended.append(how))
    with pytest.raises(JnstError, match="style/relu1_1 stopped"), serve():
        raise JnstError("style/relu1_1 stopped being finite")
    assert ended == ["broken off: style/relu1_1 stopped being finite"]


def test_without_viewers_the_end_waits_for_nobody(monkeypatch):
    waits: list[float] = []
    with serve() as preview:
        preview(report(1, 1))
        monkeypatch.setattr("jnst.apps.preview.serving.time.sleep", waits.append)
    assert waits == []


def test_open_connections_are_closed_with_the_server(monkeypatch):
    monkeypatch.setattr("jnst.apps.preview.serving.LINGER", 0.0)
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
def test_ports_and_hosts_that_cannot_be(port, host, words):
    with pytest.raises(JnstError) as caught:
        serve(port, host).__enter__()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_at_another_address_names_are_still_refused(monkeypatch):
    monkeypatch.setattr("jnst.apps.preview.serving.LINGER", 0.0)
    with serve(host="0.0.0.0") as preview:
        assert ask(preview, "/state", Host="10.1.2.3:99").status == 200
        assert ask(preview, "/state", Host="evil.example").status == 403


def test_ipv6(monkeypatch):
    monkeypatch.setattr("jnst.apps.preview.serving.LINGER", 0.0)
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback address")
    with serve(host="::1") as preview:
        assert preview.address.startswith("http://[::1]:")
        assert state_of(preview)["step"] == 0
