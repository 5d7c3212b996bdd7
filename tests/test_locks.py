from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelstore.errors import LockTimeoutError, StoreError
from modelstore.locks import locked

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
