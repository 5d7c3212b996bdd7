from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from modelstore.errors import ConflictError, NotFoundError, RemoteError
from modelstore.remotes.directory import DirectoryRemote
from modelstore.remotes.web import WebRemote
from tests.contracts.remote import Fill, ReadContract, noise
from tests.remotes.proxy import Fault, Proxy, proxied
from tests.remotes.servers import RangedHandler, web_server


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the directory that is served."""
    root = tmp_path / "served"
    root.mkdir()
    return root


@pytest.fixture
def fill(root: Path) -> Fill:
    """Return what puts a value into the directory that is served."""
    return DirectoryRemote(root).put


class TestWebRemote(ReadContract):
    """A directory behind a web server that knows ranges is a remote to read from."""

    @pytest.fixture
    def remote(self, root: Path) -> Iterator[WebRemote]:
        """Return the remote."""
        with web_server(root, RangedHandler) as url:
            yield from opened(url)


class TestPlainWebRemote(ReadContract):
    """So is one behind Python's own web server, which answers with the whole value."""

    @pytest.fixture
    def remote(self, root: Path) -> Iterator[WebRemote]:
        """Return the remote."""
        with web_server(root) as url:
            yield from opened(url)


def opened(url: str) -> Iterator[WebRemote]:
    """Yield the remote at ``url``, and close it."""
    remote = WebRemote(url)
    yield remote
    remote.close()


@pytest.fixture
def proxy(root: Path) -> Iterator[Proxy]:
    """Serve the directory through a network that fails."""
    with web_server(root, RangedHandler) as url, proxied(url) as proxy:
        yield proxy


@pytest.fixture
def remote(proxy: Proxy) -> Iterator[WebRemote]:
    """Return a remote on the other side of that network."""
    yield from opened(proxy.url)


def test_only_reads(remote: WebRemote) -> None:
    """What a web server cannot do is refused with what to use instead."""
    calls: list[Callable[[], object]] = [
        lambda: remote.put("a", b""),
        lambda: remote.put_if_absent("a", b""),
        lambda: remote.swap("a", b"", None),
        lambda: remote.delete(["a"]),
        lambda: remote.list(),
    ]
    for call in calls:
        with pytest.raises(RemoteError) as caught:
            call()
        assert caught.value.hint
    assert not remote.writable


FAULTS = [
    Fault(delay=0.05),
    Fault(reset_request_at=0),
    Fault(status=500),
    Fault(status=503),
    Fault(status=429),
    Fault(lose_reply=True),
    Fault(reset_reply_at=0),
    Fault(reset_reply_at=100_000),
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_passing_faults_pass(remote: WebRemote, proxy: Proxy, fill: Fill, fault: Fault) -> None:
    """A call that fails once is made again, and what comes is right."""
    fill("v", noise(300_000))
    for call, expected in [
        (lambda: remote.get("v"), noise(300_000)),
        (lambda: remote.get_range("v", 1000, 250_000), noise(300_000)[1000:250_000]),
        (lambda: b"".join(remote.stream("v")), noise(300_000)),
        (lambda: remote.head("v").size, 300_000),  # type: ignore[union-attr]
    ]:
        proxy.begin(lambda number, request: fault if number == 0 else None)
        assert call() == expected


def test_a_stream_goes_on_where_it_stopped(remote: WebRemote, proxy: Proxy, fill: Fill) -> None:
    """After a break only the rest is asked for, however often that happens."""
    fill("v", noise(1_000_000))
    proxy.begin(lambda number, request: Fault(reset_reply_at=150_000))
    assert b"".join(remote.stream("v")) == noise(1_000_000)
    assert len(proxy.requests) in range(7, 12)


def test_where_no_server_is_nothing_answers(tmp_path: Path) -> None:
    """The error says it in words, and what to look at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    remote = WebRemote(f"http://127.0.0.1:{port}", tries=1)
    with pytest.raises(RemoteError, match=f"nothing answers at 'http://127.0.0.1:{port}'"):
        remote.get("v")
    remote.close()


def test_a_server_that_stays_down_is_told(proxy: Proxy, fill: Fill) -> None:
    """After a few tries the error names the server."""
    remote = WebRemote(proxy.url, tries=2)
    fill("v", b"1")
    proxy.begin(lambda number, request: Fault(status=503))
    with pytest.raises(RemoteError, match="answered 503") as caught:
        remote.get("v")
    assert caught.value.exit_code == 7
    assert len(proxy.requests) == 2
    remote.close()


def test_a_value_that_changes_while_it_is_read_is_told(
    remote: WebRemote, proxy: Proxy, fill: Fill
) -> None:
    """The rest of another value is never joined to the beginning of the first."""
    fill("v", noise(1_000_000, 1))
    proxy.begin(lambda number, request: Fault(reset_reply_at=400_000))
    pieces = remote.stream("v")
    next(pieces)
    fill("v", noise(1_000_000, 2))
    with pytest.raises(ConflictError):
        list(pieces)


class Odd(SimpleHTTPRequestHandler):
    """A server that answers as the name of the file says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer oddly."""
        name = self.path.rpartition("/")[2]
        status, headers, body = ODD[name]
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


ODD: dict[str, tuple[int, dict[str, str], bytes]] = {
    "compressed": (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"),
    "short": (200, {"Content-Length": "100"}, b"012"),
    "part": (206, {"Content-Range": "bytes 0-9/10"}, b"0123456789"),
    "moved": (206, {"Content-Range": "bytes 3-6/10"}, b"3456"),
    "shorter": (206, {"Content-Range": "bytes 2-5/10"}, b"234"),
    "vague": (206, {}, b"2345"),
    "forbidden": (403, {}, b"no"),
    "teapot": (418, {}, b""),
    "loop": (302, {"Location": "/loop"}, b""),
    "elsewhere": (302, {"Location": "file:///etc/passwd"}, b""),
    "gone": (410, {}, b""),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_answers_are_errors(root: Path, name: str) -> None:
    """An answer that is not exactly what was asked for is refused, and never taken for it."""
    with web_server(root, Odd) as url:
        remote = WebRemote(url, tries=2)
        if name not in {"moved", "shorter", "vague"}:
            with pytest.raises((RemoteError, NotFoundError)):
                remote.get(name)
        with pytest.raises((RemoteError, NotFoundError)):
            remote.get_range(name, 2, 2 + (20 if name == "part" else 4))
        remote.close()


def test_a_token_is_sent_and_not_shown(root: Path, fill: Fill) -> None:
    """The token goes to the server, and into no message."""
    seen: list[str | None] = []

    class Guarded(RangedHandler):
        def do_GET(self) -> None:  # noqa: N802  (the library's name)
            seen.append(self.headers.get("Authorization"))
            self.send_error(401)

    with web_server(root, Guarded) as url:
        remote = WebRemote(url, token="hush")
        with pytest.raises(RemoteError, match="answered 401") as caught:
            remote.get("v")
        remote.close()
    assert seen == ["Bearer hush"]
    assert "hush" not in caught.value.message + caught.value.hint + remote.shown
