from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import pytest

from modelstore.errors import LockTimeoutError, StoreError
from modelstore.locks import locked, make
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.store import create
from tests.models import write_model

ROOT = Path(__file__).parent.parent

HOLD = """
import os, sys, time
from pathlib import Path
from modelstore.locks import locked
with locked(Path(sys.argv[1])):
    child = os.fork() if sys.argv[2] == "fork" else 0
    if sys.argv[2] == "fork" and child == 0:
        time.sleep(60)
        os._exit(0)
    print(child or os.getpid(), flush=True)
    sys.stdin.read()
"""
COUNT = """
import sys
from pathlib import Path
from modelstore.locks import locked
for _ in range(30):
    with locked(Path(sys.argv[1])):
        number = int(Path(sys.argv[2]).read_text())
        Path(sys.argv[2]).write_text(str(number + 1))
"""


@contextmanager
def holder(path: Path, how: str = "plain") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that holds the lock, and what it printed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
        process.kill()


def test_two_processes_never_hold_it_together(tmp_path: Path) -> None:
    """Increments that would be lost without it are all there."""
    number = tmp_path / "number"
    number.write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path / "x.lock"), str(number)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [subprocess.Popen(command, env=environment) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert number.read_text() == "90"


def test_waiting_in_vain_names_the_holder(tmp_path: Path) -> None:
    """Process, host, command and time, with exit code 11; and the block is not entered."""
    path = tmp_path / "store.lock"
    with holder(path) as (process, _):
        with pytest.raises(LockTimeoutError) as caught, locked(path, timeout=0.05):
            pytest.fail("entered")
        assert re.search(rf"'store.lock' is held by process {process.pid} on", str(caught.value))
        assert "'-c" in str(caught.value)
        assert "waited 0.05 s" in str(caught.value)
        assert caught.value.exit_code == 11
        assert isinstance(caught.value, TimeoutError)
        assert "--lock-timeout" in caught.value.hint


@pytest.mark.parametrize("note", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}'])
def test_a_damaged_note_spoils_only_the_message(tmp_path: Path, note: str) -> None:
    """Nothing depends on what it says."""
    path = tmp_path / "store.lock"
    with locked(path):
        (tmp_path / "store.owner").write_text(note)
        with pytest.raises(LockTimeoutError, match="another process"), locked(path, timeout=0):
            pytest.fail("entered")
    with locked(path, timeout=0):
        pass


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    """No lock is ever stale."""
    path = tmp_path / "store.lock"
    with holder(path) as (process, _):
        process.send_signal(signal.SIGKILL)
        process.wait()
        with locked(path, timeout=1):
            pass


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A worker that outlives its killed parent must not block everyone."""
    path = tmp_path / "store.lock"
    with holder(path, "fork") as (process, child):
        process.send_signal(signal.SIGKILL)
        os.waitpid(process.pid, 0)
        process.returncode = -9
        try:
            with locked(path, timeout=1):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


def test_it_is_free_after_an_error(tmp_path: Path) -> None:
    """The block may raise."""
    path = tmp_path / "store.lock"
    with pytest.raises(KeyError), locked(path):
        raise KeyError
    with locked(path, timeout=0):
        pass


def test_what_cannot_be_locked_is_named_at_once(tmp_path: Path) -> None:
    """An error of the system is not waited for."""
    (tmp_path / "locks").write_bytes(b"")
    start = time.monotonic()
    with pytest.raises(StoreError, match="cannot lock"), locked(tmp_path / "locks" / "x.lock"):
        pytest.fail("entered")
    assert time.monotonic() - start < 5


LYING = """
import fcntl, sys
fcntl.flock = lambda *_: None
from modelstore.cli import main
main()
"""


def test_where_locks_lie_no_change_is_lost(tmp_path: Path) -> None:
    """If flock succeeds for everyone, each number is still taken once, and losers are told."""
    root = tmp_path / "store"
    store = create(root)
    commit(store, write_model(tmp_path / "run"), ModelName("m"), CommitOptions())
    commands = [
        [sys.executable, "-c", LYING, "-C", str(root), "alias", f"name{number}", "v1.0"]
        for number in range(12)
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    runs = [
        subprocess.Popen(
            c, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for c in commands
    ]
    for run in runs:
        run.communicate()
    won = {f"name{number}" for number, run in enumerate(runs) if run.returncode == 0}
    assert {run.returncode for run in runs} <= {0, 5}
    state = store.state(ModelName("m"))
    assert won
    assert set(state.aliases) == won
    assert state.seq == 1 + len(won)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Nothing that only looks like a lock takes its place, and the message says why."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreError, match="has no locks") as caught, locked(tmp_path / "x.lock"):
        pytest.fail("entered")
    assert "local disk" in caught.value.hint


def test_a_filelock_that_is_too_old_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 3.30 it knew no fallback_to_soft, and removed files that others waited for."""

    def old(path: Path, timeout: float = -1, mode: int = 0o644) -> None:
        pytest.fail("used")

    monkeypatch.setattr(filelock, "FileLock", old)
    with pytest.raises(StoreError, match="too old") as caught, locked(tmp_path / "x.lock"):
        pytest.fail("entered")
    assert "filelock>=3.30" in caught.value.hint


@pytest.mark.parametrize(
    ("directory", "expected"), [(0o775, 0o664), (0o755, 0o644), (0o700, 0o600)]
)
@pytest.mark.parametrize("ahead", [True, False])
def test_who_may_write_to_the_directory_may_lock(
    tmp_path: Path, directory: int, expected: int, ahead: bool
) -> None:
    """A store is shared with a group by the permissions of its directories, whatever the umask is."""
    tmp_path.chmod(directory)
    path = tmp_path / "x.lock"
    before = os.umask(0o077)
    try:
        if ahead:
            make(path)
        with locked(path):
            pass
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == expected
