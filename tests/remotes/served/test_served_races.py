"""Pushes to a server at once, through a network that fails, and while the server is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from modelstore.errors import ConflictError, StoreError
from modelstore.ops.gc import gc, plan_gc
from modelstore.remotes.base import Remote
from modelstore.remotes.opening import open_remote
from modelstore.remotes.served import ServedRemote
from modelstore.store import Store, create
from tests.cli.program import command, environment
from tests.contracts.remote import at_once
from tests.ops.remotes import (
    LINE,
    assert_quick,
    assert_sound,
    commit_model,
    files_out,
    pull_from,
    push_to,
)
from tests.remotes.proxy import Fault, Proxy, proxied
from tests.remotes.scenes import once, then
from tests.server.live import TOKEN, serving

MINE = {"MSTORE_TOKEN": TOKEN}
TRIES = 3


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Store]:
    """A store with three versions, each built on the one before, and a copy from after the first."""
    root = tmp_path_factory.mktemp("line")
    store = create(root / "store")
    commit_model(store, root / "run")
    shutil.copytree(store.root, root / "first")
    for number in (1, 2):
        commit_model(store, root / "run", step=number * 1e-3)
    return store, Store(root / "first")


@pytest.fixture
def line(lines: tuple[Store, Store]) -> Store:
    """The store with three versions."""
    return lines[0]


def remote_at(url: str) -> closing[Remote]:
    """Open the server at ``url`` with the token, by one who does not try for long."""
    return closing(ServedRemote(url, TOKEN, TRIES))


def assert_holds(served: Store, line: Store) -> None:
    """Assert that a store has every version of the line, byte for byte, and no damage."""
    assert served.state(LINE).document == line.state(LINE).document
    for version in map(str, line.state(LINE).versions()):
        assert files_out(served, version) == files_out(line, version)
    assert_sound(served)
    assert not list((served.meta / "tmp").iterdir())


# --- a network that fails

FAULTS = (
    Fault(reset_request_at=0),
    Fault(reset_request_at=100),
    Fault(lose_reply=True),
    Fault(reset_reply_at=0),
    Fault(status=503),
    Fault(twice=True),
    Fault(status=500),
    Fault(status=429),
    Fault(delay=0.1),
)


def _push_and_pull(line: Store, root: Path, hit: int, fault: Fault) -> int:
    """Push and pull by way of a proxy that breaks one request; return how many there were."""
    served, other = create(root / "served"), create(root / "other")
    with serving(served, token=TOKEN) as live, proxied(live.url) as proxy:
        proxy.begin(once(hit, fault))
        with remote_at(proxy.url) as remote:
            push_to(line, remote)
            pull_from(other, remote)
    assert_holds(served, line)
    assert_holds(other, line)
    return len(proxy.requests)


@pytest.mark.parametrize("fault", [FAULTS[1], FAULTS[2], FAULTS[5]], ids=str)
def test_a_fault_passes(line: Store, tmp_path: Path, fault: Fault) -> None:
    """A request that is cut, answered and not heard, or made twice, changes nothing in the end."""
    for number, hit in enumerate((4, 26)):
        assert _push_and_pull(line, tmp_path / str(number), hit, fault) > hit


@pytest.mark.slow
def test_a_fault_at_any_request_passes(line: Store, tmp_path: Path) -> None:
    """Whichever request is hit, and however."""
    for hit in range(100):
        fault = FAULTS[hit % len(FAULTS)]
        if _push_and_pull(line, tmp_path / str(hit), hit, fault) <= hit:
            break
    assert hit > 40


# --- kill -9


class Killable:
    """A server as a process of its own, which is killed and started again behind a proxy."""

    def __init__(self, served: Store) -> None:
        self._served = served
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        """Start it; it listens when this returns."""
        self._process = subprocess.Popen(
            command("-C", self._served.root, "serve", "-q", "--port", "0"),
            stdout=subprocess.PIPE,
            text=True,
            env=environment(MINE),
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url

    def kill(self) -> None:
        """Kill it as a power cut would."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


@contextmanager
def killable(served: Store) -> Iterator[tuple[Killable, Proxy]]:
    """Run a server that can be killed, and a proxy before it."""
    server = Killable(served)
    server.start()
    try:
        with proxied(server.url) as proxy:
            yield server, proxy
    finally:
        server.kill()


@pytest.mark.parametrize(
    "hits", [(9,), pytest.param((4, 6, 8, 11, 12, 13, 14, 15, 16), marks=pytest.mark.slow)]
)
def test_a_server_that_is_killed_loses_nothing(
    lines: tuple[Store, Store], tmp_path: Path, hits: tuple[int, ...]
) -> None:
    """Killed at some request of a push, it has what it said it has; the next push goes on."""
    line, first = lines
    for hit in hits:
        served = create(tmp_path / str(hit))
        with killable(served) as (server, proxy):
            with remote_at(proxy.url) as remote:
                push_to(first, remote)
                proxy.begin(then(hit, server.kill))
                with pytest.raises(StoreError):
                    push_to(line, remote)
            assert proxy.requests[hit].method in {"GET", "HEAD", "PUT"}
            assert_quick(served)
            assert files_out(served, "v1.0") == files_out(first, "v1.0")
            kept = set(served.blobs.iter_digests())
            server.start()
            proxy.upstream = urlsplit(server.url).netloc
            proxy.begin()
            with remote_at(proxy.url) as remote:
                push_to(line, remote)
            assert kept <= set(served.blobs.iter_digests())
        gc(served, plan_gc(served, purge_now=True))
        assert_holds(served, line)


# --- those who race


def _push_until_done(store: Store, url: str) -> None:
    with closing(open_remote(url, MINE)) as remote:
        for _ in range(100):
            try:
                push_to(store, remote)
            except ConflictError:  # noqa: PERF203  (the loop is for it)
                pull_from(store, remote, rebase=True)
            else:
                return
    raise AssertionError("others were faster a hundred times")


def _race(root: Path, number: int, *, local: bool) -> None:
    """Let so many push a version each to one server, while it commits and collects itself."""
    served, first = create(root / "served"), create(root / "first")
    commit_model(first, root / "run")
    with serving(served, token=TOKEN) as live:
        with remote_at(live.url) as remote:
            push_to(first, remote)
        stores = []
        for index in range(number):
            shutil.copytree(first.root, root / f"store{index}")
            stores.append(Store(root / f"store{index}"))
            commit_model(stores[index], root / "run", step=(index + 1) * 1e-3)
        expected = {files_out(one, "v1.1")["model.safetensors"] for one in stores}
        expected.add(files_out(first, "v1.0")["model.safetensors"])
        over = threading.Event()

        def collect() -> None:
            while not over.wait(0.05):
                gc(served, plan_gc(served))

        def push_one(index: int) -> None:
            if index < number:
                _push_until_done(stores[index], live.url)
            else:
                commit_model(served, root / "local", step=1.0)

        collecting = threading.Thread(target=collect)
        collecting.start()
        try:
            at_once(number + local, push_one)
        finally:
            over.set()
            collecting.join()
    if local:
        expected.add(files_in(root / "local"))
    versions = [str(version) for version in served.state(LINE).versions()]
    assert versions == [f"v1.{index}" for index in range(number + local + 1)]
    assert {files_out(served, one)["model.safetensors"] for one in versions} == expected
    assert_sound(served)


def files_in(directory: Path) -> bytes:
    """Return the weights in a directory."""
    return (directory / "model.safetensors").read_bytes()


def test_of_some_who_push_at_once_nobody_loses_anything(tmp_path: Path) -> None:
    """Each pushes its version after a rebase or two, while gc runs and somebody commits there."""
    _race(tmp_path, 3, local=True)


@pytest.mark.slow
def test_of_eight_who_push_at_once_nobody_loses_anything(tmp_path: Path) -> None:
    """Eight do the same."""
    _race(tmp_path, 8, local=True)
