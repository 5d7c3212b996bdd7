"""Slow and greedy clients: what each may take, and that others are served meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.server import limits
from modelstore.store import Store, create
from tests.cli.program import environment
from tests.models import files_of, write_model
from tests.server.conftest import Scene
from tests.server.live import Live, serving

HEAD = b"GET /llama_1b/resolve/main/big.bin HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def _connect(live: Live, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", live.port), timeout=20)
    connection.sendall(data)
    return connection


def _hangs_up(connection: socket.socket) -> bool:
    """Wait for the end of a connection; whatever comes before it is left."""
    try:
        while connection.recv(1 << 20):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let servers wait a fraction of a second for the head of a request, and for a client."""
    plain = limits.protocol
    monkeypatch.setattr(limits, "protocol", lambda most: plain(most, 0.4, 0.6))


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A version with a file that no buffer of the system can hold."""
    root = tmp_path_factory.mktemp("big")
    store = create(root / "tuned_models")
    (root / "run").mkdir()
    (root / "run" / "big.bin").write_bytes(os.urandom(1 << 20) * 24)
    commit(store, root / "run", ModelName("llama_1b"), CommitOptions("m", activate=True))
    return store


# --- the head and the body of a request


def test_a_head_that_is_too_long_is_refused(scene: Scene) -> None:
    """64 KiB are the most; the connection ends there."""
    with _connect(scene.live, HEAD) as connection:
        try:
            for _ in range(40):
                connection.sendall(b"X-Long: " + b"a" * 4000 + b"\r\n")
        except ConnectionError:
            pass
        assert _hangs_up(connection)
    assert scene.live.ask("/api/models").status == 200


@pytest.mark.parametrize(
    ("path", "headers"), [("/api/models", {"X-Long": "a" * 100_000}), ("/" + "a" * 100_000, {})]
)
def test_a_head_that_comes_at_once_is_no_longer(
    scene: Scene, path: str, headers: dict[str, str]
) -> None:
    """A line or a field of 100 kB is as much too long if no part of it is missing."""
    with suppress(ConnectionError):  # it may hang up while we are sending
        assert scene.live.ask(path, headers=headers).status in {400, 431}
    assert scene.live.ask("/api/models").status == 200


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\0" * 100, b"GET / HTTP/9.9\r\n\r\n",
     b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
     b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
     b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
     b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"],
)  # fmt: skip
def test_what_is_no_request_is_answered_or_ended(scene: Scene, data: bytes) -> None:
    """No bytes whatever disturb the server."""
    with _connect(scene.live, data) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert _hangs_up(connection)
    assert scene.live.ask("/api/models").status == 200


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_refused(scene: Scene, declared: bool) -> None:
    """More than a MiB is no question; it is not read to its end."""
    head = b"POST /api/validate-yaml HTTP/1.1\r\nHost: localhost\r\n"
    with _connect(scene.live) as connection:
        if declared:
            connection.sendall(head + b"Content-Length: 99999999999\r\n\r\n")
        else:
            piece = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + piece * 17)
        assert b" 413 " in connection.recv(1000)


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    """A request whose body stops is refused after a while."""
    from starlette.requests import Request

    from modelstore.server.errors import Refused

    async def receive() -> dict[str, str]:
        await asyncio.sleep(60)
        return {}

    request = Request({"type": "http", "headers": [], "method": "POST", "path": "/"}, receive)
    with pytest.raises(Refused) as refused:
        asyncio.run(limits.read_body(request, seconds=0.05))
    assert refused.value.status == 408


# --- slow connections


def test_a_connection_without_a_request_ends(scene: Scene, impatient: None) -> None:
    """Neither silence, nor half a head, nor a byte now and then keeps a connection."""
    with serving(scene.store) as live, ExitStack() as stack:
        begun = [stack.enter_context(_connect(live, data)) for data in (b"", HEAD, b"G")]
        for _ in range(8):
            time.sleep(0.1)
            try:
                begun[2].sendall(b"E")
            except ConnectionError:
                break
        assert all(_hangs_up(connection) for connection in begun)
        full = b"GET /api/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with _connect(live, full) as connection:  # and one that has had its answer
            assert _hangs_up(connection)


def test_a_client_that_takes_nothing_is_cut_off(big: Store, impatient: None) -> None:
    """An answer that nobody reads ends, with what it holds."""
    with serving(big, allow_pickle=True) as live, _connect(live, HEAD + b"\r\n") as connection:
        connection.recv(1000)
        time.sleep(1.5)
        received = 0
        try:
            while data := connection.recv(1 << 20):
                received += len(data)
        except ConnectionError:
            pass
        assert received < 24 << 20


def test_a_client_that_pauses_gets_every_byte(
    big: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was let go while a client paused is decoded again where it goes on."""
    monkeypatch.setattr("modelstore.server.content.PAUSE_SECONDS", 0.05)
    entry = big.state(ModelName("llama_1b")).entry("v1.0")
    assert entry is not None
    size = 24 << 20
    with serving(big, allow_pickle=True) as live, _connect(live, HEAD + b"\r\n") as connection:
        data = bytearray()
        while b"\r\n\r\n" not in data:
            data += connection.recv(1000)
        data = data[data.index(b"\r\n\r\n") + 4 :]
        for number in range(10_000):
            if len(data) >= size:
                break
            if number < 40:
                time.sleep(0.02)
            data += connection.recv(1 << 18)
        whole = live.ask("/llama_1b/resolve/main/big.bin").body
    assert len(data) == size
    assert bytes(data) == whole


@pytest.mark.parametrize("many", [200, pytest.param(500, marks=pytest.mark.slow)])
def test_many_slow_connections_leave_room_for_others(scene: Scene, many: int) -> None:
    """With more connections than are kept open, those that ask are served and those that do not go."""
    with serving(scene.store, connections=64) as live, ExitStack() as stack:
        for number in range(many):
            data = HEAD if number % 2 else b""
            stack.enter_context(_connect(live, data))
        began = time.monotonic()
        for _ in range(5):
            assert live.ask("/llama_1b/resolve/main/config.json").status == 200
        assert time.monotonic() - began < 5


@pytest.mark.slow
def test_200_slow_downloads_leave_room_for_others(big: Store) -> None:
    """200 clients that hold their downloads do not keep others waiting, nor fill the memory."""
    with serving(big, allow_pickle=True) as live, ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(_connect(live, HEAD + b"\r\n"))
        time.sleep(2)
        began = time.monotonic()
        assert len(live.ask("/llama_1b/resolve/main/big.bin").body) == 24 << 20
        assert time.monotonic() - began < 10


# --- the process


def _start(
    store: Store, *words: str, lines: int = 4, **variables: str
) -> tuple[subprocess.Popen[str], list[str]]:
    """Start a server and return what it has said when it is ready, a line each."""
    command = [sys.executable, "-m", "modelstore", "-C", str(store.root), "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment(), "PYTHONUNBUFFERED": "1", **variables},
    )
    assert process.stdout is not None
    return process, [process.stdout.readline().strip() for _ in range(lines)]


def _ask(url: str, path: str) -> int:
    port = int(url.rpartition(":")[2])
    return Live(url, port, []).ask(path).status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_quietly(scene: Scene, number: int) -> None:
    """It says what to export and an example; and at the end that it stopped, with code 0."""
    process, (serving, page, export, example) = _start(scene.store)
    url = export.removeprefix("export HF_ENDPOINT=")
    with process:
        assert _ask(url, "/api/models") == 200
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err.strip()) == (0, "stopped")
    assert serving.endswith(f"at {url}; Ctrl-C ends it")
    assert page == f"in a browser: {url}/"
    assert example == "hf download mstore/llama_1b --revision v1.1"


@pytest.mark.parametrize("words", [[], ["--token"]])
def test_a_token_of_the_environment_is_taken_and_not_shown(scene: Scene, words: list[str]) -> None:
    """What is started so takes changes, and says that; `--token` then makes no other."""
    said = "correct-horse-battery"
    process, lines = _start(scene.store, *words, lines=5, MSTORE_TOKEN=said)
    with process:
        url = lines[2].removeprefix("export HF_ENDPOINT=")
        live = Live(url, int(url.rpartition(":")[2]), [])
        token = {"Authorization": f"Bearer {said}"}
        body = b'{"name": "fresh%d"}' % len(words)
        made = live.ask("/api/repos/create", "POST", token, body)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert made.status == 200
    assert "takes changes" in lines[3]
    assert said not in "".join(lines)


def test_kill_9_loses_nothing(scene: Scene) -> None:
    """A server that is killed while it serves leaves the store as it was."""
    before = files_of(scene.store.root)
    process, (url,) = _start(scene.store, "--quiet", lines=1)
    with process:
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(HEAD.replace(b"big.bin", b"model.safetensors") + b"\r\n")
            connection.recv(100)
            process.kill()
            process.communicate(timeout=30)
    assert files_of(scene.store.root) == before


def test_reading_writes_nothing(scene: Scene, tmp_path: Path) -> None:
    """Whatever clients read, not a file of the store is made or changed."""
    write_model(tmp_path / "other")
    before = files_of(scene.store.root)
    with serving(scene.store, allow_pickle=True) as live:
        for path in ("/api/models/llama_1b", "/llama_1b/resolve/v1.0/model.safetensors"):
            assert live.ask(path).status == 200
    assert files_of(scene.store.root) == before
